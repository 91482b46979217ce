//! Links the program as an image.
fn main() {
    paravane_link::image();
}
