//! Media types by file name extension.

/// The media type of a file with this name, as a `Content-Type` value.
///
/// Text comes with `charset=utf-8`, the encoding of nearly every site; unknown extensions are
/// `application/octet-stream`, which no browser executes.
pub(crate) fn of_name(name: &[u8]) -> &'static str {
    let Some(dot) = name.iter().rposition(|&byte| byte == b'.' || byte == b'/') else {
        return UNKNOWN;
    };
    let mut lower = [0; EXTENSION_LEN_MAX];
    match (name[dot], name.get(dot + 1..)) {
        (b'.', Some(extension)) if extension.len() <= lower.len() => {
            let lower = &mut lower[..extension.len()];
            lower.copy_from_slice(extension);
            lower.make_ascii_lowercase();
            of_extension(lower)
        }
        _ => UNKNOWN,
    }
}

const UNKNOWN: &str = "application/octet-stream";
const EXTENSION_LEN_MAX: usize = 11;

/// The types that sites consist of (IANA media types; `text/javascript` by RFC 9239).
fn of_extension(extension: &[u8]) -> &'static str {
    match extension {
        b"html" | b"htm" => "text/html; charset=utf-8",
        b"css" => "text/css; charset=utf-8",
        b"js" | b"mjs" => "text/javascript; charset=utf-8",
        b"txt" | b"log" | b"conf" => "text/plain; charset=utf-8",
        b"md" => "text/markdown; charset=utf-8",
        b"csv" => "text/csv; charset=utf-8",
        b"ics" => "text/calendar; charset=utf-8",
        b"vtt" => "text/vtt; charset=utf-8",
        b"xml" => "text/xml; charset=utf-8",
        b"json" | b"map" => "application/json",
        b"webmanifest" => "application/manifest+json",
        b"xhtml" => "application/xhtml+xml",
        b"atom" => "application/atom+xml",
        b"rss" => "application/rss+xml",
        b"pdf" => "application/pdf",
        b"wasm" => "application/wasm",
        b"zip" => "application/zip",
        b"gz" | b"tgz" => "application/gzip",
        b"bz2" => "application/x-bzip2",
        b"xz" => "application/x-xz",
        b"zst" => "application/zstd",
        b"7z" => "application/x-7z-compressed",
        b"tar" => "application/x-tar",
        b"epub" => "application/epub+zip",
        b"rtf" => "application/rtf",
        b"svg" => "image/svg+xml",
        b"png" => "image/png",
        b"apng" => "image/apng",
        b"jpg" | b"jpeg" => "image/jpeg",
        b"gif" => "image/gif",
        b"webp" => "image/webp",
        b"avif" => "image/avif",
        b"bmp" => "image/bmp",
        b"ico" => "image/x-icon",
        b"tif" | b"tiff" => "image/tiff",
        b"mp3" => "audio/mpeg",
        b"m4a" => "audio/mp4",
        b"aac" => "audio/aac",
        b"flac" => "audio/flac",
        b"oga" | b"ogg" | b"opus" => "audio/ogg",
        b"wav" => "audio/wav",
        b"mid" | b"midi" => "audio/midi",
        b"mp4" | b"m4v" => "video/mp4",
        b"mov" => "video/quicktime",
        b"webm" => "video/webm",
        b"ogv" => "video/ogg",
        b"avi" => "video/x-msvideo",
        b"mpeg" | b"mpg" => "video/mpeg",
        b"woff" => "font/woff",
        b"woff2" => "font/woff2",
        b"ttf" => "font/ttf",
        b"otf" => "font/otf",
        _ => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_extension_decides() {
        for (name, expect) in [
            ("index.html", "text/html; charset=utf-8"),
            ("a/b.c/LOGO.PNG", "image/png"),
            ("style.css.gz", "application/gzip"),
            ("a.d/readme", UNKNOWN),
            ("readme", UNKNOWN),
            ("dot.", UNKNOWN),
            (".html", "text/html; charset=utf-8"),
            ("a.averyveryverylongextension", UNKNOWN),
            ("app.webmanifest", "application/manifest+json"),
        ] {
            assert_eq!(of_name(name.as_bytes()), expect, "{name}");
        }
    }
}
