//! Byte edits of the client's text at the scanner's token offsets, and the proof that only the intended change happened.
