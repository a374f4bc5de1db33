//! Unicode text: case folding, and the kinds of characters.

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};
use unicase::UniCase;
use unicode_normalization::UnicodeNormalization;

/// Returns the same text for all spellings that differ only in case or in composition:
/// the full case folding of the decomposed text, composed (The Unicode Standard,
/// section 3.13, D145).
pub fn caseless(text: &str) -> String {
    UniCase::unicode(text.nfd().collect::<String>()).to_folded_case().nfc().collect()
}

/// Returns the Unicode category of a character: a letter, a mark, a control, …
pub fn category(c: char) -> GeneralCategory {
    CodePointMapData::<GeneralCategory>::new().get(c)
}

/// Returns whether a character is a control, a line or paragraph separator, or an
/// invisible one that changes how the text around it is shown, such as one that changes
/// its direction. Joiners and the tags of flags do not count, because they are parts of
/// words and emoji.
pub fn is_control(c: char) -> bool {
    const JOINERS: [char; 2] = ['\u{200c}', '\u{200d}'];
    match category(c) {
        GeneralCategory::Control | GeneralCategory::LineSeparator | GeneralCategory::ParagraphSeparator => true,
        GeneralCategory::Format => !JOINERS.contains(&c) && !matches!(c, '\u{e0020}'..='\u{e007f}'),
        _ => false,
    }
}

/// Returns whether a character is invisible where it has no effect on its neighbours
/// (`Default_Ignorable_Code_Point`): fillers, joiners, variation selectors.
pub fn is_ignorable(c: char) -> bool {
    CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}
