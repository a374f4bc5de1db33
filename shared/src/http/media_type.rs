//! Media types, by the grammar of RFC 9110, section 8.3.1.

/// Returns the type and the subtype of a `Content-Type`, such as `application/json`.
/// Parameters are checked, but have no effect. `None` if the text is not a media type.
pub(super) fn essence(content_type: &[u8]) -> Option<&str> {
    let content_type = content_type.trim_ascii();
    let end = content_type.iter().position(|byte| *byte == b';').unwrap_or(content_type.len());
    let (essence, parameters) = content_type.split_at(end);
    let essence = str::from_utf8(essence.trim_ascii_end()).ok()?;
    let (main, subtype) = essence.split_once('/')?;
    check_parameters(parameters)?;
    (is_token(main.as_bytes()) && is_token(subtype.as_bytes())).then_some(essence)
}

/// Returns `Some` if this is `*( OWS ";" OWS [ parameter ] )` (section 5.6.6).
fn check_parameters(mut text: &[u8]) -> Option<()> {
    while let Some(parameter) = text.trim_ascii_start().strip_prefix(b";") {
        let parameter = parameter.trim_ascii_start();
        text = match parameter.first() {
            None | Some(b';') => parameter,
            Some(_) => after_parameter(parameter)?,
        };
    }
    text.is_empty().then_some(())
}

/// Returns the text after `token "=" ( token / quoted-string )`.
fn after_parameter(text: &[u8]) -> Option<&[u8]> {
    let value = after_token(text)?.strip_prefix(b"=")?;
    match value.strip_prefix(b"\"") {
        Some(quoted) => after_quoted(quoted),
        None => after_token(value),
    }
}

fn after_token(text: &[u8]) -> Option<&[u8]> {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let end = text.iter().position(|byte| !is_tchar(byte)).unwrap_or(text.len());
    (end > 0).then(|| &text[end..])
}

fn is_token(text: &[u8]) -> bool {
    after_token(text).is_some_and(<[u8]>::is_empty)
}

/// Returns the text after a quoted string, whose opening quote has been read (section 5.6.4).
fn after_quoted(mut text: &[u8]) -> Option<&[u8]> {
    loop {
        let escaped = text.strip_prefix(b"\\");
        let (byte, rest) = escaped.unwrap_or(text).split_first()?;
        match byte {
            b'"' if escaped.is_none() => return Some(rest),
            b'\t' | b' '..=b'~' | 0x80.. => text = rest,
            _ => return None,
        }
    }
}
