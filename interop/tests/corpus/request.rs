//! How the corpus writes requests: a usual request, and what is different about it.

use mcp_policy_interop::wire::End;

/// A request that reads as harmless in one way and as harmful in another; or one that is only odd.
pub struct Variant {
    pub name: &'static str,
    /// The rule of mcp.md, section 3, that it tries. 0 is the table of eras, section 1.2.
    pub rule: u8,
    pub bytes: Vec<u8>,
    pub end: End,
    /// How many answers it can have.
    pub answers: usize,
}

/// A request. `Connection: close` ends what follows it, so that everything is settled when the other side has closed.
#[derive(Clone)]
pub struct Request {
    line: String,
    headers: Vec<Vec<u8>>,
    /// The message, however it is framed.
    message: Vec<u8>,
    body: Vec<u8>,
}

/// A request with a body, as clients of the legacy era send it.
pub fn post(body: impl AsRef<[u8]>) -> Request {
    let message = body.as_ref().to_vec();
    let headers = [
        "Host: 127.0.0.1:8080".to_owned(),
        "Content-Type: application/json".to_owned(),
        "Accept: application/json, text/event-stream".to_owned(),
        format!("Content-Length: {}", message.len()),
        "Connection: close".to_owned(),
    ];
    Request { line: "POST /mcp HTTP/1.1".to_owned(), headers: headers.map(String::into_bytes).into(), body: message.clone(), message }
}

/// A call with these members of `params`.
pub fn params(params: impl AsRef<str>) -> Request {
    post(call(params.as_ref()))
}

/// A call of `safe` with this text as arguments.
pub fn arguments(arguments: impl AsRef<str>) -> Request {
    params(format!(r#""name":"safe","arguments":{}"#, arguments.as_ref()))
}

/// The message of a call with these members of `params`.
pub fn call(params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{{params}}}}}"#)
}

pub fn safe() -> String {
    call(r#""name":"safe","arguments":{}"#)
}

pub fn danger() -> String {
    call(r#""name":"danger","arguments":{}"#)
}

/// `_meta` of a modern request.
pub const META: &str =
    r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;

/// A modern call with these members of `params`, and with headers that repeat the version and the method.
pub fn modern(members: &str) -> Request {
    params(format!("{members},{META}")).with("MCP-Protocol-Version: 2026-07-28").with("Mcp-Method: tools/call")
}

impl Request {
    /// With one more header line.
    pub fn with(mut self, line: impl AsRef<[u8]>) -> Self {
        self.headers.push(line.as_ref().to_vec());
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        let count = self.headers.len();
        self.headers.retain(|line| !line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes())));
        assert!(self.headers.len() < count, "there was no {name}");
        self
    }

    /// With this line in place of the one of the same header.
    pub fn but(self, line: impl AsRef<[u8]>) -> Self {
        let line = line.as_ref();
        let name = line.split(|byte| *byte == b':').next().unwrap_or(line);
        self.without(std::str::from_utf8(name).unwrap()).with(line)
    }

    /// With this request line.
    pub fn line(mut self, line: &str) -> Self {
        line.clone_into(&mut self.line);
        self
    }

    /// To another target.
    pub fn to(self, target: &str) -> Self {
        self.line(&format!("POST {target} HTTP/1.1"))
    }

    /// With these bytes behind the head, whatever its headers say.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    /// With the same body in chunks of this size.
    pub fn chunked(self, size: usize) -> Self {
        let mut body = Vec::new();
        for chunk in self.body.chunks(size) {
            body.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
            body.extend_from_slice(chunk);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"0\r\n\r\n");
        self.without("Content-Length").with("Transfer-Encoding: chunked").body(body)
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.line.clone().into_bytes();
        for header in &self.headers {
            bytes.extend_from_slice(b"\r\n");
            bytes.extend_from_slice(header);
        }
        bytes.extend_from_slice(b"\r\n\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// The header lines, in order.
    pub fn headers(&self) -> &[Vec<u8>] {
        &self.headers
    }

    pub fn message(&self) -> &[u8] {
        &self.message
    }
}

#[allow(clippy::needless_pass_by_value, reason = "a table of cases reads better without borrows")]
pub fn variant(rule: u8, name: &'static str, request: Request) -> Variant {
    raw(rule, name, request.bytes())
}

/// A request that leaves the other side waiting for more.
pub fn unfinished(rule: u8, name: &'static str, bytes: Vec<u8>) -> Variant {
    Variant { end: End::HalfCloses, ..raw(rule, name, bytes) }
}

pub fn raw(rule: u8, name: &'static str, bytes: Vec<u8>) -> Variant {
    Variant { name, rule, bytes, end: End::Waits, answers: 1 }
}

/// Bytes that some read as two requests.
pub fn two(rule: u8, name: &'static str, bytes: Vec<u8>) -> Variant {
    Variant { answers: 2, ..raw(rule, name, bytes) }
}
