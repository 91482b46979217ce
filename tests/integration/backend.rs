//! The backends that the cases run on.
use std::process::Command;
use std::sync::OnceLock;

/// What a guest runs on: a backend of `paravane run`, or the shim in an emulated machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Process,
    Kvm,
    Shim,
}

impl Backend {
    pub(crate) const ALL: [Self; 3] = [Self::Process, Self::Kvm, Self::Shim];

    /// Its name in names of cases, and the value of `--backend` where there is one.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Kvm => "kvm",
            Self::Shim => "shim",
        }
    }

    /// Why the backend cannot be used on this machine; in `doctor`'s words, if it is one of `paravane run`.
    pub(crate) fn missing(self) -> Option<String> {
        if self == Self::Shim {
            return crate::shim::missing();
        }
        let check = format!("backend {}", self.name());
        let checks = doctor()["checks"].as_array().cloned().unwrap_or_default();
        let found = checks.iter().find(|c| c["name"] == check.as_str());
        match found {
            Some(c) if c["works"] == true => None,
            Some(c) => Some(c["detail"].as_str().unwrap_or("no reason given").to_owned()),
            None => Some(format!("doctor knows no check \"{check}\"")),
        }
    }
}

/// What `paravane doctor --json` prints; asked once.
pub(crate) fn doctor() -> &'static serde_json::Value {
    static DOCTOR: OnceLock<serde_json::Value> = OnceLock::new();
    DOCTOR.get_or_init(|| {
        let output = Command::new(crate::domain::paravane())
            .args(["doctor", "--json"])
            .output()
            .expect("target/release/paravane is built: scripts/build");
        serde_json::from_slice(&output.stdout).expect("doctor --json prints JSON")
    })
}
