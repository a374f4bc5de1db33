//! Any bytes as the body of a request, both as JSON and as a form.
#![no_main]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    for content_type in ["application/json", "application/x-www-form-urlencoded"] {
        let mut event = fuzz::event();
        event["headers"]["content-type"] = content_type.into();
        event["headers"]["x-token-transport"] = "body".into();
        event["body"] = STANDARD.encode(body).into();
        event["isBase64Encoded"] = true.into();
        fuzz::invoke(&event.to_string());
    }
});
