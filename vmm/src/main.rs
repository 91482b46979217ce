//! `paravane`: runs Paravane images.
fn main() {}
