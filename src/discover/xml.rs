//! A bounded reader of XML: bytes to a tree of elements with local names.
//!
//! Names are compared without prefix and namespace: cameras use any prefix, default namespaces and namespaces of drafts.
//! Entities beyond the five of XML and character references are errors, and so is a document type: nothing expands.

use std::borrow::Cow;

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

/// Bytes of a document at most: the profiles of a recorder with 64 channels need a third of it.
pub const DOCUMENT_MAX: usize = 1 << 20;
/// Elements inside each other at most; ONVIF needs about 12.
pub const DEPTH_MAX: usize = 32;
/// Elements of a document at most.
pub const ELEMENTS_MAX: usize = 32_768;
/// Attributes of an element at most.
pub const ATTRIBUTES_MAX: usize = 64;

/// Why a document was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// Longer than [`DOCUMENT_MAX`], deeper than [`DEPTH_MAX`] or with more parts than the limits allow.
    #[error("the document is too large ({0})")]
    TooLarge(&'static str),
    /// A document type or an entity of one.
    #[error("the document declares a type or uses its entities, which is refused")]
    DocumentType,
    /// Not well-formed, cut off, or without an element.
    #[error("the document is not well-formed XML ({0})")]
    Malformed(String),
}

/// An element.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Element {
    /// Name without prefix.
    pub name: String,
    /// Attributes: name without prefix, value.
    pub attributes: Vec<(String, String)>,
    /// Text directly inside, CDATA included, without blanks around it.
    pub text: String,
    /// Elements inside, in order.
    pub children: Vec<Element>,
}

impl Element {
    /// The first child of this name.
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// All children of this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The element at a path of names below this one.
    pub fn at(&self, path: &[&str]) -> Option<&Element> {
        path.iter().try_fold(self, |element, name| element.child(name))
    }

    /// The text at a path of names; `None` where nothing or an empty text stands.
    pub fn text_at(&self, path: &[&str]) -> Option<&str> {
        self.at(path).map(|element| element.text.as_str()).filter(|text| !text.is_empty())
    }

    /// The number at a path of names.
    pub fn number_at(&self, path: &[&str]) -> Option<f64> {
        self.text_at(path)?.parse().ok().filter(|number: &f64| number.is_finite())
    }

    /// The value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// Text of a document: UTF-8 where the bytes are UTF-8, ISO 8859-1 otherwise, whatever it declares.
fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, XmlError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(XmlError::Malformed("UTF-16 is not read".into()));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Cow::Borrowed(text)),
        Err(_) => Ok(Cow::Owned(bytes.iter().map(|byte| char::from(*byte)).collect())),
    }
}

fn local(name: &str) -> String {
    name.rsplit(':').next().unwrap_or_default().to_owned()
}

fn malformed(error: impl std::fmt::Display) -> XmlError {
    XmlError::Malformed(super::short(&error.to_string()))
}

/// Reads a document.
///
/// # Errors
/// It is too large, has a document type or is not well-formed.
pub fn parse(bytes: &[u8]) -> Result<Element, XmlError> {
    if bytes.len() > DOCUMENT_MAX {
        return Err(XmlError::TooLarge("bytes"));
    }
    let text = decode(bytes)?;
    // What stands before the first element: line feeds of a careless printf, and zeros behind the last.
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_end_names = true;
    let mut tree = Tree::default();
    loop {
        match reader.read_event().map_err(malformed)? {
            Event::Start(start) => tree.open(element(&start)?)?,
            Event::Empty(start) => {
                tree.open(element(&start)?)?;
                tree.close()?;
            }
            Event::End(_) => tree.close()?,
            Event::Text(text) => tree.text(&text.xml10_content()),
            Event::CData(text) => tree.text(&text.xml10_content()),
            Event::GeneralRef(reference) => match reference.resolve_char_ref() {
                Ok(Some(c)) => tree.text(c.encode_utf8(&mut [0; 4])),
                Ok(None) => tree.text(predefined(&reference.xml10_content())?),
                Err(error) => return Err(malformed(error)),
            },
            Event::DocType(_) => return Err(XmlError::DocumentType),
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
        // What follows the first element is not read: cameras append garbage.
        if let Some(root) = tree.root.take() {
            return Ok(root);
        }
    }
    Err(XmlError::Malformed("it is cut off".into()))
}

fn predefined(name: &str) -> Result<&'static str, XmlError> {
    match name {
        "amp" => Ok("&"),
        "lt" => Ok("<"),
        "gt" => Ok(">"),
        "quot" => Ok("\""),
        "apos" => Ok("'"),
        _ => Err(XmlError::DocumentType),
    }
}

fn element(start: &BytesStart<'_>) -> Result<Element, XmlError> {
    let mut attributes = Vec::new();
    for attribute in start.attributes().with_checks(false) {
        let attribute = attribute.map_err(malformed)?;
        let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(malformed)?;
        if attributes.len() == ATTRIBUTES_MAX {
            return Err(XmlError::TooLarge("attributes"));
        }
        attributes.push((local(attribute.key.as_ref()), value.trim().to_owned()));
    }
    Ok(Element { name: local(start.name().as_ref()), attributes, ..Element::default() })
}

/// The open elements, outermost first.
#[derive(Default)]
struct Tree {
    open: Vec<Element>,
    root: Option<Element>,
    elements: usize,
}

impl Tree {
    fn open(&mut self, element: Element) -> Result<(), XmlError> {
        self.elements += 1;
        match (self.open.len() < DEPTH_MAX, self.elements <= ELEMENTS_MAX) {
            (false, _) => Err(XmlError::TooLarge("depth")),
            (_, false) => Err(XmlError::TooLarge("elements")),
            _ => {
                self.open.push(element);
                Ok(())
            }
        }
    }

    fn close(&mut self) -> Result<(), XmlError> {
        let mut element = self.open.pop().ok_or_else(|| malformed("an end without a begin"))?;
        element.text = element.text.trim().to_owned();
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.root = Some(element),
        }
        Ok(())
    }

    fn text(&mut self, text: &str) {
        if let Some(element) = self.open.last_mut() {
            element.text.push_str(text);
        }
    }
}

/// Text with the five characters of XML escaped.
pub fn escaped(text: &str) -> Cow<'_, str> {
    quick_xml::escape::escape(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_cdata_references_and_blanks_are_read() {
        let text = "\r\n <?xml version=\"1.0\" encoding=\"utf-8\"?><!-- x --><a:r xmlns:a='urn:x' xmlns='urn:y'>\
            <b> one &amp; <![CDATA[<two>]]> &#x33;\n</b><zz:b t:k=' a&lt;b '/></a:r>trailing";
        let root = parse(text.as_bytes()).unwrap();
        assert_eq!((root.name.as_str(), root.children.len()), ("r", 2));
        assert_eq!(root.text_at(&["b"]), Some("one & <two> 3"));
        assert_eq!(root.all("b").nth(1).unwrap().attribute("k"), Some("a<b"));
    }

    #[test]
    fn latin_1_is_read_where_the_bytes_are_not_utf_8() {
        let root = parse(b"<a>Caf\xe9</a>").unwrap();
        assert_eq!(root.text, "Caf\u{e9}");
        assert_eq!(parse("<a>đường</a>".as_bytes()).unwrap().text, "đường");
        assert!(parse(b"\xff\xfe<\0a\0>\0").is_err());
    }

    #[test]
    fn a_document_type_and_its_entities_are_refused() {
        let bomb = "<!DOCTYPE a [<!ENTITY x \"yyyy\">]><a>&x;</a>";
        assert_eq!(parse(bomb.as_bytes()), Err(XmlError::DocumentType));
        assert_eq!(parse(b"<a>&x;</a>"), Err(XmlError::DocumentType));
        assert!(matches!(parse(b"<a k='&x;'/>"), Err(XmlError::Malformed(_))));
    }

    #[test]
    fn a_document_beyond_a_limit_is_refused() {
        let deep = |n: usize| format!("{}{}", "<a>".repeat(n), "</a>".repeat(n));
        assert!(parse(deep(DEPTH_MAX).as_bytes()).is_ok());
        assert_eq!(parse(deep(DEPTH_MAX + 1).as_bytes()), Err(XmlError::TooLarge("depth")));
        let wide = format!("<a>{}</a>", "<b/>".repeat(ELEMENTS_MAX));
        assert_eq!(parse(wide.as_bytes()), Err(XmlError::TooLarge("elements")));
        let keys: String = (0..=ATTRIBUTES_MAX).map(|i| format!(" k{i}='1'")).collect();
        assert_eq!(parse(format!("<a{keys}/>").as_bytes()), Err(XmlError::TooLarge("attributes")));
        assert_eq!(parse(&vec![b' '; DOCUMENT_MAX + 1]), Err(XmlError::TooLarge("bytes")));
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        for text in ["", "x", "<a>", "<a></b>", "</a>", "<a><b></a></b>", "<a", "\0\0"] {
            assert!(matches!(parse(text.as_bytes()), Err(XmlError::Malformed(_))), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic_and_escaped_text_survives(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), text in "[ -~đ]{0,40}",
        ) {
            let _ = parse(&bytes);
            let root = parse(format!("<a>{}</a>", escaped(&text)).as_bytes()).unwrap();
            proptest::prop_assert_eq!(root.text, text.trim());
        }
    }
}
