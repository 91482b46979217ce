//! A page with sub-resources, loaded in headless Chromium.
use crate::backend::Backend;
use crate::case::Case;
use crate::web::Web;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::process::Command;

pub(crate) fn cases() -> Vec<Case> {
    vec![Case::new("browser::page-with-sub-resources", page).needs("chromium")]
}

const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>page</title>
<link rel="stylesheet" href="look.css"><img id="picture" src="picture.svg" width="40" height="30">
<p id="result">script did not run</p><script src="script.js"></script>"#;

const SCRIPT: &str = r#"addEventListener("load", async () => {
  const text = await (await fetch("data/answer.json")).json();
  const picture = document.getElementById("picture");
  const colour = getComputedStyle(document.body).color;
  document.getElementById("result").textContent =
    `script ran, answer ${text.answer}, colour ${colour}, picture ${picture.complete}`;
});"#;

const PICTURE: &str = r#"<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30"><rect width="40" height="30"/></svg>"#;

fn page(backend: Backend) -> Result<()> {
    let web = Web::serve(backend, "", |site| {
        fs::create_dir(site.join("data"))?;
        fs::write(site.join("index.html"), PAGE)?;
        fs::write(site.join("look.css"), "body{color:rgb(1,2,3)}")?;
        fs::write(site.join("script.js"), SCRIPT)?;
        fs::write(site.join("picture.svg"), PICTURE)?;
        fs::write(site.join("data/answer.json"), "{\"answer\":42}")?;
        Ok(())
    })?;
    let profile = tempfile::tempdir()?;
    let output = Command::new("timeout")
        .args(["120", "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"])
        .args(["--no-first-run", "--disable-background-networking", "--disable-component-update"])
        .args(["--disable-sync", "--virtual-time-budget=10000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("{}/", web.url))
        .output()
        .context("running chromium")?;
    let page = String::from_utf8_lossy(&output.stdout);
    let expected = "script ran, answer 42, colour rgb(1, 2, 3), picture true";
    ensure!(page.contains(expected), "{page}\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
