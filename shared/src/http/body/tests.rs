use lambda_http::Body;
use lambda_http::http::HeaderValue;
use proptest::prelude::*;

use super::*;

fn read(content_type: &str, body: impl AsRef<[u8]>) -> Result<Members, Error> {
    let mut request = Request::new(Body::Binary(body.as_ref().to_vec()));
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_bytes(content_type.as_bytes()).unwrap());
    Members::read(&request)
}

fn json(body: impl AsRef<[u8]>) -> Result<Map<String, Value>, Error> {
    read("application/json", body).map(|members| members.0)
}

fn fields(body: impl AsRef<[u8]>) -> Result<Map<String, Value>, Error> {
    read(FORM, body).map(|members| members.0)
}

#[test]
fn in1_json_and_forms_are_read_whatever_the_parameters() {
    for content_type in [
        "application/json",
        "APPLICATION/JSON",
        "application/json;charset=utf-8",
        "application/json; charset=UTF-8",
        "application/json; charset=\"utf-8\"",
        "application/json; x=y",
        "application/json; charset=utf8",
        "application/json ; charset=utf-8",
        "application/json\t;\tcharset=utf-8",
        "application/json; charset=iso-8859-1",
        "application/json;",
        "application/json; ;; charset=utf-8 ;",
        "application/json; charset=utf-8; charset=utf-16",
        "application/json; x=\"a;b, \\\" \u{e9}\"; charset=utf-8",
        "application/json; x=\"\"",
        " application/json ",
        "application/vnd.a.b-c+JSON",
        "application/problem+json",
        "application/vnd.api+json; charset=utf-8",
    ] {
        let members = read(content_type, r#"{"a":"b"}"#).unwrap();
        assert_eq!(members.text("a", "").unwrap(), "b", "{content_type}");
    }
    for content_type in [
        FORM,
        "Application/X-WWW-Form-Urlencoded; charset=utf-8",
        "application/x-www-form-urlencoded ; charset=utf8",
        "application/x-www-form-urlencoded;charset=latin1;",
    ] {
        assert_eq!(read(content_type, "a=b").unwrap().text("a", "").unwrap(), "b", "{content_type}");
    }
}

#[test]
fn in1_every_other_content_type_is_refused() {
    for content_type in [
        "",
        "json",
        "text/json",
        "text/plain",
        "text/x+json",
        "application/jsonp",
        "application/x-json",
        "application/octet-stream",
        "multipart/form-data; boundary=x",
        "application/json, text/plain",
        "text/plain; application/json",
        "text/plain;x=application/json",
        "application/json\u{e9}",
        "application/ json",
        "application /json",
        "application/json charset=utf-8",
        "application/json; charset",
        "application/json; charset=",
        "application/json; =utf-8",
        "application/json; charset =utf-8",
        "application/json; charset= utf-8",
        "application/json; charset=utf-8 x",
        "application/json; charset=\"utf-8",
        "application/json; charset=\"utf-8\"x",
        "application/json; charset=\"utf-8\\",
        "application/json; charset=utf-8, text/plain",
        "application/json/x",
        "/json",
        "application/",
        "application/json+xml",
        "*/*",
    ] {
        let refused = read(content_type, r#"{"a":"b"}"#).err();
        assert_eq!(refused, Some(OTHER_TYPE), "{content_type}");
    }
    let mut request = Request::new(Body::from("{}"));
    assert_eq!(Members::read(&request).err(), Some(OTHER_TYPE));
    for _ in 0..2 {
        request.headers_mut().append(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    assert_eq!(Members::read(&request).err(), Some(OTHER_TYPE));
}

#[test]
fn a_compressed_body_is_refused_as_one() {
    let read = |codings: &[&'static str]| {
        let mut request = Request::new(Body::Binary(vec![0x1f, 0x8b, 8, 0]));
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for coding in codings {
            request.headers_mut().append(CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
        Members::read(&request).err()
    };
    for codings in
        [&["gzip"][..], &["GZIP"], &["br"], &["deflate, gzip"], &["identity,gzip"], &["identity", "zstd"], &["x"]]
    {
        assert_eq!(read(codings), Some(ENCODED), "{codings:?}");
    }
    for codings in [&[][..], &["identity"], &["Identity"], &[""], &["identity, "]] {
        assert_eq!(read(codings), Some(NOT_JSON), "{codings:?}");
    }
}

#[test]
fn in4_half_of_a_surrogate_pair_is_refused_as_such() {
    for body in [
        r#"{"a":"\ud800"}"#,
        r#"{"a":"\udc00"}"#,
        r#"{"a":"x\ud83dx"}"#,
        r#"{"a":"\uD83D\n"}"#,
        r#"{"a":"\ud83d\ud83d\ude00"}"#,
        r#"{"a":"\ude00\ud83d"}"#,
        r#"{"\udfff":1}"#,
        r#"{"a":{"b":["\udbff"]}}"#,
    ] {
        assert_eq!(json(body), Err(LONE_SURROGATE), "{body}");
    }
    for body in [r#"{"a":"\u12"}"#, r#"{"a":"\ux"}"#, r#"{"a":"\u"}"#, r#"{"unexpected end of hex escape":"#] {
        assert_eq!(json(body), Err(NOT_JSON), "{body}");
    }
    assert_eq!(json(r#"{"a":"\ud83d\ude00"}"#).unwrap()["a"], "\u{1f600}");
}

#[test]
fn an_empty_body_needs_no_content_type_and_has_no_members() {
    assert!(Members::read(&Request::new(Body::Empty)).unwrap().0.is_empty());
    assert!(read("text/plain", "").unwrap().0.is_empty());
}

#[test]
fn in2_a_body_of_8_kib_is_read_and_a_longer_one_is_not_even_looked_at() {
    let json_of = |length: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(length - r#"{"a":""}"#.len()));
    assert!(json(json_of(8192)).is_ok());
    assert_eq!(json(json_of(8193)), Err(Error::PayloadTooLarge));
    assert_eq!(fields(format!("a={}", "x".repeat(8190))).map(|fields| fields.len()), Ok(1));
    assert_eq!(fields(format!("a={}", "x".repeat(8191))), Err(Error::PayloadTooLarge));
    assert_eq!(read("text/plain", [0xff; 8193]).err(), Some(Error::PayloadTooLarge));
}

#[test]
fn in3_json_nests_eight_deep_and_no_deeper() {
    let nested = |depth: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1));
    assert!(json(nested(8)).is_ok());
    for depth in [9, 10, 4000] {
        assert_eq!(json(nested(depth)), Err(NOT_JSON), "{depth}");
    }
}

#[test]
fn in3_in4_in7_what_is_not_one_strict_json_object_is_refused() {
    let cases: [&[u8]; 14] = [
        b" ",
        b"null",
        b"[]",
        b"\"a\"",
        b"a=b",
        b"{\"a\":1",
        b"{\"a\":1}{}",
        b"{'a':1}",
        b"\xef\xbb\xbf{}",
        b"{\"a\":\"\xff\"}",
        br#"{"a":1,"a":1}"#,
        br#"{"a":1,"\u0061":2}"#,
        br#"{"b":{"a":1,"a":2}}"#,
        br#"{"a":1e999}"#,
    ];
    for case in cases {
        assert_eq!(json(case), Err(NOT_JSON), "{}", String::from_utf8_lossy(case));
    }
}

#[test]
fn a_form_is_decoded_as_browsers_encode_it() {
    for (body, name, value) in [
        ("a=b", "a", "b"),
        ("a=", "a", ""),
        ("a", "a", ""),
        ("=b", "", "b"),
        ("a=b=c", "a", "b=c"),
        ("a=b+c%2B%20d", "a", "b c+ d"),
        ("%61=%C3%A9%26", "a", "\u{e9}&"),
        ("&&a=b&", "a", "b"),
        ("a=100%", "a", "100%"),
        ("a=%zz%1", "a", "%zz%1"),
        ("a=\u{e9}", "a", "\u{e9}"),
    ] {
        let fields = fields(body).unwrap();
        assert_eq!(fields.len(), 1, "{body}");
        assert_eq!(fields[name], value, "{body}");
    }
}

#[test]
fn in3_in4_a_form_with_a_field_twice_or_other_than_utf_8_is_refused() {
    let cases: [&[u8]; 9] =
        [b"a=1&a=1", b"a=1&b=2&a=3", b"a=1&%61=2", b"a&a", b"=&=", b"a=\xff", b"\xff=a", b"a=%ff", b"a=%ed%a0%80"];
    for case in cases {
        assert_eq!(fields(case), Err(NOT_A_FORM), "{}", String::from_utf8_lossy(case));
    }
}

#[test]
fn a_member_is_asked_for_as_a_text_that_must_or_may_be_there() {
    let members = read("application/json", r#"{"text":"x","empty":"","null":null,"number":1,"list":["x"]}"#).unwrap();
    assert_eq!(members.text("text", "missing"), Ok("x"));
    assert_eq!(members.text("empty", "missing"), Ok(""));
    for name in ["null", "number", "list", "absent"] {
        assert_eq!(members.text(name, "missing"), Err(Error::InvalidRequest("missing".into())), "{name}");
    }
    assert_eq!(members.optional("text"), Ok(Some("x")));
    assert_eq!((members.optional("null"), members.optional("absent")), (Ok(None), Ok(None)));
    for name in ["number", "list"] {
        let fault = format!("`{name}` must be a string.");
        assert_eq!(members.optional(name), Err(Error::InvalidRequest(fault.into())));
    }
    assert!(members.has("text") && members.has("null") && !members.has("absent"));
}

proptest! {
    #[test]
    fn in8_any_bytes_are_a_body_or_refused_for_what_they_are(body in prop::collection::vec(any::<u8>(), 0..200)) {
        for content_type in ["application/json", FORM] {
            if let Err(error) = read(content_type, &body) {
                prop_assert!(matches!(error, Error::InvalidRequest(_)), "{:?}", error);
            }
        }
    }
}
