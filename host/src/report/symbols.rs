//! Function, file and line of an address, from the image's symbols and line tables.
use super::Printable;
use addr2line::gimli::{EndianSlice, LittleEndian};
use addr2line::{Context, demangle_auto};
use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;
use object::{File, Object, ObjectSection, SymbolMap, SymbolMapName};

type Reader<'a> = EndianSlice<'a, LittleEndian>;

/// The symbols of an image; without some or all of them, less is said.
#[expect(missing_debug_implementations, reason = "the parser has none")]
pub struct Symbols<'a> {
    lines: Option<Context<Reader<'a>>>,
    functions: Option<SymbolMap<SymbolMapName<'a>>>,
}

impl<'a> Symbols<'a> {
    /// The symbols of the ELF file `image`; none if it cannot be read.
    #[must_use]
    pub fn new(image: &'a [u8]) -> Self {
        let file = File::parse(image).ok();
        let lines = file.as_ref().and_then(line_tables);
        let functions = file.map(|file| file.symbol_map());
        Self { lines, functions }
    }

    /// The source files of the code at `address`: that of the innermost inlined function first.
    #[must_use]
    pub fn files(&self, address: u64) -> Vec<&str> {
        let found = self.lines.as_ref().map(|lines| lines.find_frames(address).skip_all_loads());
        let Some(Ok(mut frames)) = found else { return Vec::new() };
        let next = || frames.next().ok().flatten();
        core::iter::from_fn(next).filter_map(|frame| frame.location?.file).collect()
    }

    /// Writes what is at `address` to the end of the line, and the functions that it was inlined into
    /// on lines of their own.
    pub(super) fn write(&self, f: &mut fmt::Formatter<'_>, address: u64) -> fmt::Result {
        if self.write_lines(f, address)? {
            return Ok(());
        }
        let function = self.functions.as_ref().and_then(|map| map.containing(address));
        match function {
            Some(function) => {
                let name = demangle_auto(Cow::Borrowed(function.name()), None);
                writeln!(f, " {}", Printable(&name))
            }
            None => writeln!(f),
        }
    }

    /// As [`Symbols::write`], from line tables; false if they know nothing.
    fn write_lines(&self, f: &mut fmt::Formatter<'_>, address: u64) -> Result<bool, fmt::Error> {
        let found = self.lines.as_ref().map(|lines| lines.find_frames(address).skip_all_loads());
        let Some(Ok(mut frames)) = found else { return Ok(false) };
        let mut is_known = false;
        while let Ok(Some(frame)) = frames.next() {
            let Some(location) = frame.location else { break };
            if is_known {
                write!(f, "{:24}", "")?;
            }
            is_known = true;
            let name = frame.function.as_ref().and_then(|function| function.demangle().ok());
            let name = name.unwrap_or(Cow::Borrowed("?"));
            let file = location.file.unwrap_or("?");
            let line = location.line.unwrap_or(0);
            writeln!(f, " {} at {}:{line}", Printable(&name), Printable(file))?;
        }
        Ok(is_known)
    }
}

fn line_tables<'a>(file: &File<'a>) -> Option<Context<Reader<'a>>> {
    let section = |id: addr2line::gimli::SectionId| {
        let data = file.section_by_name(id.name()).and_then(|section| section.data().ok());
        Ok::<_, addr2line::gimli::Error>(EndianSlice::new(data.unwrap_or(&[]), LittleEndian))
    };
    let dwarf = addr2line::gimli::Dwarf::load(section).ok()?;
    Context::from_dwarf(dwarf).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the symbols say of an address.
    struct At<'a>(Symbols<'a>, u64);

    impl fmt::Display for At<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.write(f, self.1)
        }
    }

    #[test]
    fn addresses_have_file_and_line() {
        let program = std::env::current_exe().unwrap();
        let image = std::fs::read(program).unwrap();
        let file = object::File::parse(image.as_slice()).unwrap();
        let here = object::Object::symbol_map(&file);
        let name = "addresses_have_file_and_line";
        let function = here.symbols().iter().find(|s| s.name().contains(name)).unwrap();
        let text = At(Symbols::new(&image), function.address()).to_string();
        assert!(text.contains(name) && text.contains("report/symbols.rs:"), "{text}");
    }

    #[test]
    fn garbage_has_no_symbols() {
        assert_eq!(At(Symbols::new(b"garbage"), 1).to_string(), "\n");
    }
}
