//! Reads the vectors of this folder.

/// One vector: its number, whether it is valid, and its values.
pub(crate) struct Vector<'a> {
    pub(crate) id: &'a str,
    pub(crate) is_valid: bool,
    values: Vec<&'a str>,
}

/// The vectors of a file.
pub(crate) fn vectors(file: &str) -> Vec<Vector<'_>> {
    let lines = file.lines().filter(|line| !line.starts_with('#'));
    let read = |line| {
        let mut words = str::split(line, ' ');
        let (id, result) = (words.next().unwrap(), words.next().unwrap());
        Vector { id, is_valid: result == "valid", values: words.collect() }
    };
    lines.map(read).collect()
}

impl Vector<'_> {
    /// The value of a column, from 0 behind the result.
    pub(crate) fn bytes(&self, column: usize) -> Vec<u8> {
        let digits = self.values[column].trim_start_matches('-');
        let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        (0..digits.len()).step_by(2).map(byte).collect()
    }
}
