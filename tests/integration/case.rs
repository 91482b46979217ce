//! A case: one property, to be shown on every backend.
use crate::backend::Backend;
use libtest_mimic::Trial;

type Body = dyn Fn(Backend) -> anyhow::Result<()> + Send + Sync;

/// One property and how to show it.
pub(crate) struct Case {
    name: String,
    /// Why the case cannot run here on any backend.
    missing: Option<String>,
    /// Why the case makes no sense on the shim.
    not_on_shim: Option<&'static str>,
    only_on_shim: bool,
    body: std::sync::Arc<Body>,
}

impl Case {
    pub(crate) fn new<F>(name: impl Into<String>, body: F) -> Self
    where
        F: Fn(Backend) -> anyhow::Result<()> + Send + Sync + 'static,
    {
        Self {
            name: name.into(),
            missing: None,
            not_on_shim: None,
            only_on_shim: false,
            body: std::sync::Arc::new(body),
        }
    }

    /// A case that is about the shim itself.
    pub(crate) fn of_shim<F>(name: impl Into<String>, body: F) -> Self
    where
        F: Fn() -> anyhow::Result<()> + Send + Sync + 'static,
    {
        Self { only_on_shim: true, ..Self::new(name, move |_| body()) }
    }

    /// The same case, skipped on the shim for the reason given.
    pub(crate) fn not_on_shim(self, reason: &'static str) -> Self {
        Self { not_on_shim: Some(reason), ..self }
    }

    /// The same case, run only where the program is installed.
    pub(crate) fn needs(mut self, program: &str) -> Self {
        if !is_installed(program) {
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
        let is_meant = |backend: &Backend| !self.only_on_shim || *backend == Backend::Shim;
        Backend::ALL.into_iter().filter(is_meant).map(|backend| self.trial(backend)).collect()
    }

    fn trial(&self, backend: Backend) -> Trial {
        let name = format!("{}::{}", backend.name(), self.name);
        let senseless = self.not_on_shim.filter(|_| backend == Backend::Shim).map(str::to_owned);
        match senseless.or_else(|| self.missing.clone()).or_else(|| backend.missing()) {
            Some(reason) => Trial::test(format!("{name} (skipped: {reason})"), || Ok(()))
                .with_ignored_flag(true),
            None => {
                let body = self.body.clone();
                Trial::test(name, move || body(backend).map_err(|e| format!("{e:?}").into()))
            }
        }
    }
}

/// Whether a program lies on the path.
pub(crate) fn is_installed(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|p| p.join(program).is_file())
}
