//! Any text as an event.
#![no_main]

libfuzzer_sys::fuzz_target!(|event: &str| fuzz::invoke(event));
