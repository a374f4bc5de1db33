//! Unicode text: which spellings are one, and which characters are what.

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};
use unicase::UniCase;
use unicode_normalization::UnicodeNormalization;

/// The same text for all spellings that differ only in case or in composition:
/// the full case folding of the decomposed text, composed (The Unicode Standard,
/// section 3.13, D145).
pub fn caseless(text: &str) -> String {
    UniCase::unicode(text.nfd().collect::<String>()).to_folded_case().nfc().collect()
}

/// What Unicode says that a character is: a letter, a mark, a control, …
pub fn category(c: char) -> GeneralCategory {
    CodePointMapData::<GeneralCategory>::new().get(c)
}

/// Whether a character is invisible where it has no effect on its neighbours
/// (`Default_Ignorable_Code_Point`): fillers, joiners, variation selectors.
pub fn is_ignorable(c: char) -> bool {
    CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}
