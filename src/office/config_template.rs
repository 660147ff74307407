//! Configuration template: `{{name}}` is a value of the device, `{{site}}` its site id.

use std::collections::BTreeMap;

/// Fills in a template.
///
/// # Errors
/// Every name without a value, or a `{{` without `}}`.
pub fn fill(
    template: &str,
    site: &str,
    values: &BTreeMap<String, String>,
) -> Result<String, String> {
    let (mut text, mut unknown, mut rest) =
        (String::with_capacity(template.len()), Vec::new(), template);
    while let Some((before, behind)) = rest.split_once("{{") {
        let (name, after) = behind.split_once("}}").ok_or("a {{ has no }}")?;
        text.push_str(before);
        match (name.trim(), values.get(name.trim())) {
            ("site", None) => text.push_str(site),
            (_, Some(value)) => text.push_str(value),
            (name, None) => unknown.push(name.chars().take(40).collect::<String>()),
        }
        rest = after;
    }
    text.push_str(rest);
    if unknown.is_empty() { Ok(text) } else { Err(format!("no value for {}", unknown.join(", "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_lists_every_name_without_a_value() {
        let values = BTreeMap::from([("camera".to_owned(), "10.0.0.2".to_owned())]);
        let filled =
            fill("site = \"{{site}}\"\nurl = \"rtsp://{{ camera }}/1\"\n", "km-17", &values)
                .unwrap();
        assert_eq!(filled, "site = \"km-17\"\nurl = \"rtsp://10.0.0.2/1\"\n");
        assert_eq!(fill("{{a}} {{b}} {{site}}", "x", &values).unwrap_err(), "no value for a, b");
        assert!(fill("{{a", "x", &values).is_err());
    }
}
