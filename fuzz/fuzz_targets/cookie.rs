//! Any text as the cookies of a request, both in the event's list and in the header.
#![no_main]

libfuzzer_sys::fuzz_target!(|cookies: &str| {
    let mut event = fuzz::event();
    event["cookies"] = cookies.split("; ").collect::<Vec<_>>().into();
    fuzz::invoke(&event.to_string());
    event["cookies"] = serde_json::Value::Null;
    event["headers"]["cookie"] = cookies.into();
    fuzz::invoke(&event.to_string());
});
