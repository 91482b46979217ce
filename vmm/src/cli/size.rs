//! Sizes of memory on the command line.
use paravane_abi::layout::{RAM_SIZE_ALIGN, RAM_SIZE_MAX, RAM_SIZE_MIN};

/// Parses a size of RAM such as `64M` or `1G`; units are powers of 1024, and the result is in bytes.
///
/// # Errors
/// A sentence that says what is wrong.
pub(super) fn parse(text: &str) -> Result<u64, String> {
    let shift = match text.chars().last() {
        Some('K' | 'k') => 10,
        Some('M' | 'm') => 20,
        Some('G' | 'g') => 30,
        _ => 0,
    };
    let digits = if shift == 0 { text } else { &text[..text.len() - 1] };
    let number: u64 = digits.parse().map_err(|_| "give a size such as 64M or 1G".to_owned())?;
    let bytes = number.checked_mul(1 << shift).ok_or("that is too large")?;
    if !(RAM_SIZE_MIN..=RAM_SIZE_MAX).contains(&bytes) {
        let (min, max) = (RAM_SIZE_MIN >> 20, RAM_SIZE_MAX >> 30);
        return Err(format!("a guest has from {min}M to {max}G of memory"));
    }
    if !bytes.is_multiple_of(RAM_SIZE_ALIGN) {
        return Err(format!("memory comes in multiples of {}M", RAM_SIZE_ALIGN >> 20));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let good = |text, bytes| assert_eq!(parse(text), Ok(bytes), "{text}");
        good("64M", 64 << 20);
        good("64m", 64 << 20);
        good("1G", 1 << 30);
        good("8192K", 8 << 20);
        good("4194304", 4 << 20);
        for bad in [
            "",
            "M",
            "64 M",
            "-64M",
            "1T",
            "3M",
            "5M",
            "65G",
            "99999999999999999999",
            "20000000000G",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
