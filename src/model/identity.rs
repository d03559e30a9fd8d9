//! Who an endpoint must say it is: header fields and a text in the body of its answer to a probe, so that an address
//! that another program got meanwhile is not taken for healthy.

/// What the answer to a probe must show; empty: nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// Header fields that must be there, each with one of its values as said.
    pub headers: Vec<Pinned>,
    /// A text that the beginning of the body must hold, within [`IDENTITY_BODY_BYTES_MAX`].
    pub body: Option<String>,
}

/// A header field with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// Its name, lower case.
    pub name: String,
    /// The value, or the beginning of it when the file has a `*` at the end.
    pub value: String,
    /// Whether what begins so is enough.
    pub prefix: bool,
}

/// How much of a body is read for it: a health page says who it is at its beginning.
pub const IDENTITY_BODY_BYTES_MAX: usize = 64 << 10;

/// What stands for the name of the pool.
const POOL: &str = "{pool}";

// === impl Identity ===

impl Identity {
    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty() && self.body.is_none()
    }

    /// The same of one pool: its name stands where the file says `{pool}`.
    pub fn for_pool(&self, pool: &str) -> Self {
        let named = |text: &String| text.replace(POOL, pool);
        let pinned = |pinned: &Pinned| Pinned { value: named(&pinned.value), ..pinned.clone() };
        Self { headers: self.headers.iter().map(pinned).collect(), body: self.body.as_ref().map(named) }
    }

    /// The first field that is not as it must be, and what it is instead (none: it is not there). `values` gives the
    /// values of a field.
    pub fn stranger<'i, 'a, I: Iterator<Item = &'a [u8]>>(
        &'i self,
        values: impl Fn(&str) -> I,
    ) -> Option<(&'i Pinned, Option<String>)> {
        let wrong = |pinned: &&Pinned| !values(&pinned.name).any(|value| pinned.is(value));
        let pinned = self.headers.iter().find(wrong)?;
        Some((pinned, values(&pinned.name).next().map(|value| String::from_utf8_lossy(value).into_owned())))
    }

    /// Whether so much of a body shows who it is.
    pub fn is_in(&self, body: &[u8]) -> bool {
        let text = self.body.as_deref().unwrap_or_default().as_bytes();
        text.is_empty() || body.windows(text.len()).any(|window| window == text)
    }
}

// === impl Pinned ===

impl Pinned {
    /// A field as the file says it: `2.*` is everything that begins with `2.`.
    pub fn new(name: &str, value: &str) -> Self {
        let (value, prefix) = value.strip_suffix('*').map_or((value, false), |value| (value, true));
        Self { name: name.to_ascii_lowercase(), value: value.to_owned(), prefix }
    }

    fn is(&self, value: &[u8]) -> bool {
        let own = self.value.as_bytes();
        if self.prefix { value.starts_with(own) } else { value == own }
    }
}

impl std::fmt::Display for Pinned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}{}", self.name, self.value, if self.prefix { "*" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_endpoint_is_who_it_says_by_every_field() {
        let identity = Identity {
            headers: vec![Pinned::new("X-App", "shop"), Pinned::new("x-version", "2.*")],
            body: Some("\"pool\":\"canary\"".into()),
        };
        let with = |app: &'static [&'static str], version: &'static [&'static str]| {
            let of = |name: &str| if name == "x-app" { app } else { version };
            identity
                .stranger(|name| of(name).iter().map(|value| value.as_bytes()))
                .map(|(pinned, was)| (pinned.to_string(), was))
        };
        assert_eq!(with(&["shop"], &["2.14"]), None);
        assert_eq!(with(&["other", "shop"], &["2."]), None, "one of its values");
        assert_eq!(with(&["shop"], &["12.1"]), Some(("x-version: 2.*".into(), Some("12.1".into()))));
        assert_eq!(with(&[], &["2.1"]), Some(("x-app: shop".into(), None)));
        assert_eq!(with(&["SHOP"], &["2.1"]), Some(("x-app: shop".into(), Some("SHOP".into()))), "case counts");
        assert!(identity.is_in(b"{\"pool\":\"canary\"}") && !identity.is_in(b"{\"pool\":\"stable\"}"));
        assert!(!identity.is_in(b"") && Identity::default().is_in(b""));
    }

    #[test]
    fn the_name_of_the_pool_stands_where_the_file_says_so() {
        let identity = Identity { headers: vec![Pinned::new("x-pool", "{pool}-*")], body: Some("\"{pool}\"".into()) };
        let own = identity.for_pool("canary");
        assert_eq!((own.headers[0].to_string(), own.body.as_deref()), ("x-pool: canary-*".into(), Some("\"canary\"")));
    }

    proptest! {
        #[test]
        fn a_prefix_is_what_the_standard_library_says(value in "[a-c.]{0,4}", said in "[a-c.]{0,6}") {
            prop_assert_eq!(Pinned::new("a", &format!("{value}*")).is(said.as_bytes()), said.starts_with(&value));
            prop_assert_eq!(Pinned::new("a", &value).is(said.as_bytes()), said == value);
        }
    }
}
