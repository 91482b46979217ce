//! Links the guest as an image.
fn main() {
    paravane_link::image();
}
