//! HTTP/1.1 as far as an operator's tools need it: the head of a request, bounded, and the head of
//! an answer. Pure: bytes in, values out.
//!
//! One request is answered on a connection, and nothing but its first line matters: whatever else
//! stands in the head is skipped, and a body is not read.

use std::fmt::Write as _;

use crate::limit::ADMIN_HEAD_BYTES_MAX;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whether only the head of the answer is wanted.
    pub head_only: bool,
    /// The path, without a query.
    pub path: String,
    /// Whether the client understands an answer in chunks: HTTP/1.1 and later.
    pub chunks: bool,
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// These bytes are not HTTP.
    Malformed,
    /// The head is longer than is read.
    TooLarge,
    /// A method other than GET and HEAD.
    Method,
    /// Another version of HTTP.
    Version,
}

/// The status of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// 200
    Ok,
    /// 404
    NotFound,
    /// 503
    Unavailable,
    /// Those of refusals.
    Refused(Refusal),
}

impl Status {
    /// The code with its usual words.
    pub fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::NotFound => "404 Not Found",
            Status::Unavailable => "503 Service Unavailable",
            Status::Refused(Refusal::Malformed) => "400 Bad Request",
            Status::Refused(Refusal::Method) => "405 Method Not Allowed",
            Status::Refused(Refusal::TooLarge) => "431 Request Header Fields Too Large",
            Status::Refused(Refusal::Version) => "505 HTTP Version Not Supported",
        }
    }
}

impl Refusal {
    /// What was wrong and what to do, in a line.
    pub fn sentence(self) -> String {
        match self {
            Refusal::Malformed => {
                "these bytes are no HTTP request; this port speaks plain HTTP/1.1, \
                                   neither TLS nor Kafka's protocol"
                    .to_owned()
            }
            Refusal::TooLarge => format!(
                "the head of the request is longer than {ADMIN_HEAD_BYTES_MAX} bytes; send fewer \
                 headers"
            ),
            Refusal::Method => "everything here is read only: use GET or HEAD".to_owned(),
            Refusal::Version => "only HTTP/1.0 and HTTP/1.1 are spoken here".to_owned(),
        }
    }
}

/// Reads the head of a request. `None` if it is not whole yet.
pub fn parse(bytes: &[u8]) -> Option<Result<Request, Refusal>> {
    // A first byte that no method begins with is told at once: who speaks TLS waits for an answer.
    if bytes.first().is_some_and(|byte| !byte.is_ascii_uppercase()) {
        return Some(Err(Refusal::Malformed));
    }
    let whole = end_of_head(bytes);
    if whole.is_none() && bytes.len() < ADMIN_HEAD_BYTES_MAX {
        return None;
    }
    if whole.is_none_or(|end| end > ADMIN_HEAD_BYTES_MAX) {
        return Some(Err(Refusal::TooLarge));
    }
    Some(first_line(bytes))
}

/// The position behind the empty line that ends a head.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let newline = from + bytes[from..].iter().position(|byte| *byte == b'\n')?;
        match &bytes[newline + 1..] {
            [b'\n', ..] => return Some(newline + 2),
            [b'\r', b'\n', ..] => return Some(newline + 3),
            _ => from = newline + 1,
        }
    }
}

fn first_line(bytes: &[u8]) -> Result<Request, Refusal> {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| Refusal::Malformed)?;
    let mut words = line.trim_end_matches('\r').split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Refusal::Malformed);
    };
    let chunks = match version {
        "HTTP/1.0" => false,
        "HTTP/1.1" => true,
        other if other.starts_with("HTTP/") => return Err(Refusal::Version),
        _ => return Err(Refusal::Malformed),
    };
    let head_only = match method {
        "GET" => false,
        "HEAD" => true,
        other if other.bytes().all(|byte| byte.is_ascii_uppercase()) => {
            return Err(Refusal::Method);
        }
        _ => return Err(Refusal::Malformed),
    };
    // A proxy may send the whole address.
    let target = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    };
    let path = target.split(['?', '#']).next().unwrap_or_default();
    if !path.starts_with('/') {
        return Err(Refusal::Malformed);
    }
    Ok(Request { head_only, path: path.to_owned(), chunks })
}

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// So many bytes.
    Known(usize),
    /// It comes in chunks, each with its size.
    Chunks,
    /// It ends where the connection does.
    ToTheEnd,
}

/// The head of an answer.
pub fn head(status: Status, content: &str, length: Length) -> String {
    let mut head = format!(
        "HTTP/1.1 {}\r\nContent-Type: {content}\r\nConnection: close\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\n",
        status.line()
    );
    if status == Status::Refused(Refusal::Method) {
        head.push_str("Allow: GET, HEAD\r\n");
    }
    match length {
        Length::Known(bytes) => {
            let _ = write!(head, "Content-Length: {bytes}\r\n");
        }
        Length::Chunks => head.push_str("Transfer-Encoding: chunked\r\n"),
        Length::ToTheEnd => {}
    }
    head.push_str("\r\n");
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Result<Request, Refusal> {
        parse(text.as_bytes()).expect("a whole head")
    }

    #[test]
    fn a_request_is_its_first_line() {
        let get = |path: &str| Request { head_only: false, path: path.to_owned(), chunks: true };
        let with_headers = "GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n";
        assert_eq!(asked(with_headers), Ok(get("/metrics")));
        assert_eq!(asked("GET /a?b=/c HTTP/1.1\n\n"), Ok(get("/a")));
        assert_eq!(asked("GET http://h:1/a HTTP/1.1\r\n\r\n"), Ok(get("/a")));
        assert_eq!(asked("GET http://h HTTP/1.1\r\n\r\n"), Ok(get("/")));
        let head = asked("HEAD / HTTP/1.0\r\n\r\n").expect("legal");
        assert!(head.head_only && !head.chunks);
    }

    #[test]
    fn a_head_is_read_whole_and_never_beyond_the_limit() {
        let text = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
        for cut in 0..text.len() {
            assert_eq!(parse(&text.as_bytes()[..cut]), None, "{cut}");
        }
        let endless = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(ADMIN_HEAD_BYTES_MAX));
        assert_eq!(asked(&endless), Err(Refusal::TooLarge));
        assert_eq!(asked(&format!("{endless}\r\n\r\n")), Err(Refusal::TooLarge));
    }

    #[test]
    fn what_is_not_for_here_is_refused_for_its_reason() {
        for (text, refusal) in [
            ("POST /metrics HTTP/1.1\r\n\r\n", Refusal::Method),
            ("GET / HTTP/2.0\r\n\r\n", Refusal::Version),
            ("PRI * HTTP/2.0\r\n\r\n", Refusal::Version),
            ("GET /\r\n\r\n", Refusal::Malformed),
            ("GET  / HTTP/1.1\r\n\r\n", Refusal::Malformed),
            ("GET metrics HTTP/1.1\r\n\r\n", Refusal::Malformed),
            ("GET / FTP/1.1\r\n\r\n", Refusal::Malformed),
            ("Get / HTTP/1.1\r\n\r\n", Refusal::Malformed),
            ("get / HTTP/1.1\r\n\r\n", Refusal::Malformed),
        ] {
            assert_eq!(asked(text), Err(refusal), "{text}");
        }
        // TLS, a Kafka frame, rubbish: told at the first byte.
        for bytes in [&[0x16, 3, 1][..], &[0, 0, 0, 12], &[0xff]] {
            assert_eq!(parse(bytes), Some(Err(Refusal::Malformed)));
        }
        assert_eq!(asked("GET /\u{0} HTTP/1.1\r\n\r\n").map(|one| one.path), Ok("/\0".into()));
    }
}
