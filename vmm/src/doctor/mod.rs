//! `paravane doctor`: what works on this machine, and if not, why and what to do about it.
mod probes;

use serde::Serialize;
use std::fmt;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at: a backend, a network, a protection.
    pub name: &'static str,
    /// Whether it can be used here.
    pub works: bool,
    /// What was seen, as a sentence.
    pub detail: String,
    /// What the operator can do, if it does not work.
    pub remedy: Option<&'static str>,
}

/// All checks, in the order in which they are shown.
#[derive(Debug, Clone, Serialize)]
pub struct Diagnosis {
    /// Name of the backend that `--backend auto` takes here, if any works.
    pub auto_backend: Option<&'static str>,
    /// The checks.
    pub checks: Vec<Check>,
}

/// The outcome of one probe: what was seen, or why it does not work and what helps.
type Probed = Result<String, (String, &'static str)>;

/// One check.
type Probe = fn() -> Probed;

/// Runs every check. Changes nothing on the machine.
#[must_use]
pub fn diagnose() -> Diagnosis {
    let probes: [(&'static str, Probe); 9] = [
        ("backend kvm", probes::kvm),
        ("backend process", probes::process),
        ("sandbox: seccomp", probes::seccomp),
        ("sandbox: landlock", probes::landlock),
        ("network user", probes::user_network),
        ("network tap (creating interfaces)", probes::tap_create),
        ("network tap (using existing interfaces)", probes::tap_open),
        ("bundles: shim", probes::shim),
        ("bundles: QEMU", probes::qemu),
    ];
    let checks: Vec<_> = probes.into_iter().map(|(name, probe)| check(name, probe())).collect();
    let works = |name| checks.iter().any(|c: &Check| c.name == name && c.works);
    let auto_backend = match (works("backend kvm"), works("backend process")) {
        (true, _) => Some("kvm"),
        (false, true) => Some("process"),
        (false, false) => None,
    };
    Diagnosis { auto_backend, checks }
}

fn check(name: &'static str, probed: Probed) -> Check {
    match probed {
        Ok(detail) => Check { name, works: true, detail, remedy: None },
        Err((detail, remedy)) => Check { name, works: false, detail, remedy: Some(remedy) },
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Check { name, works, detail, remedy } in &self.checks {
            let mark = if *works { "yes" } else { "no " };
            writeln!(f, "{mark}  {name}: {detail}")?;
            if let Some(remedy) = remedy {
                writeln!(f, "     -> {remedy}")?;
            }
        }
        match self.auto_backend {
            Some(backend) => write!(f, "--backend auto takes {backend} here."),
            None => write!(f, "No backend works here."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_probe_shows_its_remedy() {
        let checks = vec![
            check("backend kvm", Err(("no /dev/kvm".into(), "load kvm"))),
            check("backend process", Ok("ready".into())),
        ];
        let text = Diagnosis { auto_backend: Some("process"), checks }.to_string();
        assert_eq!(
            text,
            "no   backend kvm: no /dev/kvm\n     -> load kvm\n\
             yes  backend process: ready\n--backend auto takes process here."
        );
    }

    #[test]
    fn every_check_that_does_not_work_says_what_to_do() {
        let diagnosis = diagnose();
        assert_eq!(diagnosis.checks.len(), 9);
        assert!(diagnosis.checks.iter().all(|c| c.works == c.remedy.is_none()));
        assert!(diagnosis.checks.iter().all(|c| !c.detail.is_empty()));
    }
}
