//! A case: one property, to be shown on every backend.
use crate::backend::Backend;
use libtest_mimic::Trial;

type Body = dyn Fn(Backend) -> anyhow::Result<()> + Send + Sync;

/// One property and how to show it.
pub(crate) struct Case {
    name: String,
    /// Why the case cannot run here on any backend.
    missing: Option<String>,
    body: std::sync::Arc<Body>,
}

impl Case {
    pub(crate) fn new<F>(name: impl Into<String>, body: F) -> Self
    where
        F: Fn(Backend) -> anyhow::Result<()> + Send + Sync + 'static,
    {
        Self { name: name.into(), missing: None, body: std::sync::Arc::new(body) }
    }

    /// The same case, run only where the program is installed.
    pub(crate) fn needs(mut self, program: &str) -> Self {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&paths).any(|p| p.join(program).is_file()) {
            self.missing.get_or_insert(format!("{program} is not installed"));
        }
        self
    }

    /// The same case, run only if `condition` holds; otherwise skipped for the reason given.
    pub(crate) fn only_if(mut self, condition: bool, reason: &str) -> Self {
        if !condition {
            self.missing.get_or_insert(reason.to_owned());
        }
        self
    }

    /// One trial per backend; a skipped one says why in its name.
    pub(crate) fn trials(self) -> Vec<Trial> {
        Backend::ALL.into_iter().map(|backend| self.trial(backend)).collect()
    }

    fn trial(&self, backend: Backend) -> Trial {
        let name = format!("{}::{}", backend.name(), self.name);
        match self.missing.clone().or_else(|| backend.missing()) {
            Some(reason) => Trial::test(format!("{name} (skipped: {reason})"), || Ok(()))
                .with_ignored_flag(true),
            None => {
                let body = self.body.clone();
                Trial::test(name, move || body(backend).map_err(|e| format!("{e:?}").into()))
            }
        }
    }
}
