//! Links the shim for ring 0.
fn main() {
    paravane_link::shim();
}
