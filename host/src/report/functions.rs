//! The function that an address lies in, from the image's symbol table.
use super::{Printable, Symbols};
use core::fmt;
use object::{File, Object, ObjectSymbol, SymbolKind};

/// The functions of an image. Needs no memory of its own: each question reads the table anew.
#[derive(Debug)]
pub struct FunctionNames<'a>(Option<File<'a>>);

impl<'a> FunctionNames<'a> {
    /// The functions of the ELF file `image`; none if it cannot be read.
    #[must_use]
    pub fn new(image: &'a [u8]) -> Self {
        Self(File::parse(image).ok())
    }
}

impl Symbols for FunctionNames<'_> {
    fn write(&self, f: &mut fmt::Formatter<'_>, address: u64) -> fmt::Result {
        let Some(file) = &self.0 else { return writeln!(f) };
        let lies_in = |start: u64, len: u64| address.checked_sub(start).is_some_and(|o| o < len);
        let function = file.symbols().find(|symbol| {
            symbol.kind() == SymbolKind::Text && lies_in(symbol.address(), symbol.size())
        });
        let Some(function) = function else { return writeln!(f) };
        let name = function.name().unwrap_or("?");
        match rustc_demangle::try_demangle(name) {
            Ok(name) => writeln!(f, " {name:#}"),
            Err(_) => writeln!(f, " {}", Printable(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of an address.
    struct At<'a>(FunctionNames<'a>, u64);

    impl fmt::Display for At<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.write(f, self.1)
        }
    }

    #[test]
    fn an_address_within_a_function_has_its_name() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let file = File::parse(program.as_slice()).unwrap();
        let wanted = "an_address_within_a_function_has_its_name";
        let is_wanted = |s: &object::Symbol<'_, '_>| {
            s.kind() == SymbolKind::Text && s.name().is_ok_and(|name| name.contains(wanted))
        };
        let address = file.symbols().find(is_wanted).unwrap().address() + 1;
        let text = At(FunctionNames::new(&program), address).to_string();
        assert!(text.contains(&format!("functions::tests::{wanted}")), "{text}");
        assert_eq!(At(FunctionNames::new(&program), 1).to_string(), "\n");
    }

    #[test]
    fn garbage_has_no_functions() {
        assert_eq!(At(FunctionNames::new(b"garbage"), 1).to_string(), "\n");
    }
}
