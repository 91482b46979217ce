//! Bundles and machines that the shim refuses.
use crate::case::Case;

pub(super) fn cases() -> Vec<Case> {
    vec![]
}
