//! The one canonical request head that stands between parsing and forwarding. Routing, logging and forwarding read
//! only this. HTTP/1 heads are parsed in place over the read buffer; HTTP/2 heads and described requests
//! (`explain`) are written into the same form by [`Head::describe`].

/// A byte range within the head's buffer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// One header field: its name in lower case, its value without surrounding blanks.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Where the name is.
    pub name: Span,
    /// Where the value is.
    pub value: Span,
    /// Which field it is, when it is one that the proxy knows.
    pub id: FieldId,
}

/// Header fields that the proxy knows, so that nothing compares names twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldId {
    /// `connection`, `keep-alive`, `proxy-connection`, `te`, `trailer`, `upgrade`, `http2-settings`,
    /// `proxy-authenticate`, `proxy-authorization`: never forwarded as they came.
    HopByHop,
    /// `content-length` and `transfer-encoding`: read by the parser, written anew.
    Framing,
    /// `host`: decided once, kept in [`Head::authority`].
    Host,
    /// `cookie`.
    Cookie,
    /// `expect`.
    Expect,
    /// `x-forwarded-for`, `-proto`, `-host`, `-port`, `-prefix`, `x-real-ip`, `forwarded`: ours to write.
    Forwarded,
    /// Any other `x-forwarded-` field, `x-original-url`, `x-rewrite-url`, `x-weir-mirror`: believed of trusted proxies
    /// alone.
    Claimed,
    /// `client-cert`, `client-cert-chain` (RFC 9440) and `x-forwarded-client-cert`: who the client is, as TLS says.
    ClientCert,
    /// `x-request-id`.
    RequestId,
    /// `traceparent`, `tracestate`.
    Trace,
    /// `via`.
    Via,
    /// A field whose name holds `_` and would be read as another one that matters: dropped.
    Shadow,
    /// `x-weir-override-token`: a secret between the client and weir, which goes no further.
    Secret,
    /// A field that `connection` nominated: dropped.
    Nominated,
    /// Any other field.
    Other,
}

/// A request head in canonical form. One lives per client connection and is reused.
#[derive(Debug, Default, Clone)]
pub struct Head {
    /// The bytes that all spans point into; what follows the head (body, next request) may stand behind it.
    pub bytes: Vec<u8>,
    /// The method, upper case as it came.
    pub method: Span,
    /// The target in origin form, path and query byte for byte as they came; of a CONNECT nothing.
    pub target: Span,
    /// Length of the path within the target; the rest is `?` and the query.
    pub path_len: u32,
    /// The one authority: from `Host`, the absolute form or `:authority`, lower case.
    pub authority: Span,
    /// The fields, in order.
    pub fields: Vec<Field>,
}

// === impl Span ===

impl Span {
    /// Length in bytes.
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether it is empty.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// As a range, for indexing.
    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

// === impl Head ===

impl Head {
    /// Writes a described request into canonical form: `authority` and `fields` as they would be sent.
    /// Names must be lower case already; the caller answers for legal bytes.
    pub fn describe<'a>(
        method: &str,
        authority: &str,
        target: &str,
        fields: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Self {
        let mut head = Head::default();
        head.redescribe(method, authority, target, fields);
        head
    }

    /// As [`Head::describe`], into a head that was used before.
    pub fn redescribe<'a>(
        &mut self,
        method: &str,
        authority: &str,
        target: &str,
        fields: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) {
        self.begin(method.as_bytes(), target.as_bytes());
        for (name, value) in fields {
            self.push_field(name.as_bytes(), value);
        }
        self.set_authority(authority.as_bytes());
    }

    /// Begins a described request anew, without fields and authority. Both are visible ASCII.
    pub fn begin(&mut self, method: &[u8], target: &[u8]) {
        self.bytes.clear();
        self.fields.clear();
        self.authority = Span::default();
        self.method = self.push(method);
        self.target = self.push(target);
        self.path_len = memchr::memchr(b'?', target).unwrap_or(target.len()) as u32;
    }

    /// Adds a field as it would be sent, its name in lower case; which one it is.
    #[inline]
    pub fn push_field(&mut self, name: &[u8], value: &[u8]) -> FieldId {
        let id = FieldId::of_bytes(name);
        let field = Field { name: self.push(name), value: self.push(value), id };
        self.fields.push(field);
        id
    }

    /// Says whom it is for.
    pub fn set_authority(&mut self, authority: &[u8]) {
        self.authority = self.push(authority);
        let authority = self.authority.range();
        self.bytes[authority].make_ascii_lowercase();
    }

    fn push(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        Span { start, end: self.bytes.len() as u32 }
    }

    /// The bytes of a span.
    pub fn slice(&self, span: Span) -> &[u8] {
        &self.bytes[span.range()]
    }

    fn text(&self, span: Span) -> &str {
        // The parser admits only visible ASCII here, so the fallback is never taken.
        std::str::from_utf8(self.slice(span)).unwrap_or_default()
    }

    /// The method.
    pub fn method(&self) -> &str {
        self.text(self.method)
    }

    /// The same, for what is asked on every request: text has to be looked through first.
    #[inline]
    pub fn method_bytes(&self) -> &[u8] {
        self.slice(self.method)
    }

    /// The target: path and query.
    pub fn target(&self) -> &str {
        self.text(self.target)
    }

    /// Whether it asks for a tunnel (RFC 9110 §9.3.6). Nothing else has no path, so that this costs other requests a
    /// look at a number.
    #[inline]
    pub fn is_connect(&self) -> bool {
        self.path_len == 0 && self.slice(self.method) == b"CONNECT"
    }

    /// The path, without the query.
    pub fn path(&self) -> &str {
        &self.target()[..self.path_len as usize]
    }

    /// The query, without its `?`.
    pub fn query(&self) -> Option<&str> {
        self.target().get(self.path_len as usize + 1..)
    }

    /// The authority: host and perhaps a port, lower case.
    pub fn authority(&self) -> &str {
        self.text(self.authority)
    }

    /// The host: the authority without its port, lower case; IPv6 addresses keep their brackets.
    pub fn host(&self) -> &str {
        let authority = self.authority();
        match authority.rfind(':') {
            Some(colon) if authority[colon + 1..].bytes().all(|b| b.is_ascii_digit()) => &authority[..colon],
            _ => authority,
        }
    }

    /// Every field with its lower-case name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|field| (self.text(field.name), self.slice(field.value)))
    }

    /// The value of the first field of that lower-case name which is not [`FieldId::Shadow`] or nominated away.
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        let found = |field: &&Field| {
            field.name.len() == name.len()
                && self.slice(field.name) == name.as_bytes()
                && !matches!(field.id, FieldId::Shadow | FieldId::Nominated)
        };
        self.fields.iter().find(found).map(|field| self.slice(field.value))
    }

    /// The value of a cookie: the first of that name over all `cookie` fields, quotes kept.
    pub fn cookie(&self, name: &str) -> Option<&[u8]> {
        self.cookies(name).next()
    }

    /// The values of all cookies of that name, in order, quotes kept.
    pub fn cookies(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let fields = self.fields.iter().filter(|field| field.id == FieldId::Cookie);
        fields.flat_map(|field| self.slice(field.value).split(|&b| b == b';')).filter_map(move |pair| {
            let pair = pair.trim_ascii();
            (pair.len() > name.len() && pair[name.len()] == b'=' && &pair[..name.len()] == name.as_bytes())
                .then(|| &pair[name.len() + 1..])
        })
    }
}

// === impl FieldId ===

impl FieldId {
    /// Recognises a lower-case name.
    pub fn of(name: &str) -> Self {
        Self::of_bytes(name.as_bytes())
    }

    /// Recognises a lower-case name; the first test is the length, which settles most.
    pub fn of_bytes(name: &[u8]) -> Self {
        match name {
            b"te"
            | b"upgrade"
            | b"trailer"
            | b"connection"
            | b"keep-alive"
            | b"proxy-connection"
            | b"http2-settings"
            | b"proxy-authenticate"
            | b"proxy-authorization" => FieldId::HopByHop,
            b"content-length" | b"transfer-encoding" => FieldId::Framing,
            b"host" => FieldId::Host,
            b"cookie" => FieldId::Cookie,
            b"expect" => FieldId::Expect,
            b"via" => FieldId::Via,
            b"traceparent" | b"tracestate" => FieldId::Trace,
            b"x-request-id" => FieldId::RequestId,
            b"client-cert" | b"client-cert-chain" => FieldId::ClientCert,
            b"x-weir-override-token" => FieldId::Secret,
            b"x-real-ip" | b"forwarded" => FieldId::Forwarded,
            b"x-original-url" | b"x-rewrite-url" | b"x-weir-mirror" => FieldId::Claimed,
            _ if name.starts_with(b"x-forwarded-") => Self::forwarded(&name[12..]),
            _ if name.contains(&b'_') => Self::underscored(name),
            _ => FieldId::Other,
        }
    }

    fn forwarded(rest: &[u8]) -> Self {
        match rest {
            b"for" | b"proto" | b"host" | b"port" | b"prefix" => FieldId::Forwarded,
            b"client-cert" => FieldId::ClientCert,
            _ => FieldId::Claimed,
        }
    }

    /// `content_length` and its like are dropped, because CGI-style backends read `_` as `-`.
    fn underscored(name: &[u8]) -> Self {
        let dashed: Vec<u8> = name.iter().map(|&b| if b == b'_' { b'-' } else { b }).collect();
        match Self::of_bytes(&dashed) {
            FieldId::Other if !dashed.starts_with(b"x-weir-") => FieldId::Other,
            _ => FieldId::Shadow,
        }
    }
}
