//! SplitMix64 and texts made of it: the same for the same seed, on every machine.

pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// A number from `low` to `high`, both included.
    pub fn range(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    pub fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }

    pub fn of(&mut self, alphabet: &str, length: usize) -> String {
        let alphabet = alphabet.as_bytes();
        (0..length).map(|_| char::from(alphabet[self.below(alphabet.len())])).collect()
    }

    pub fn hex(&mut self, length: usize) -> String {
        self.of("0123456789abcdef", length)
    }

    pub fn digits(&mut self, length: usize) -> String {
        self.of("0123456789", length)
    }

    pub fn b62(&mut self, length: usize) -> String {
        self.of(B62, length)
    }

    /// Base64 characters without padding.
    pub fn b64(&mut self, length: usize) -> String {
        self.of(B64, length)
    }

    /// As above in the alphabet for URLs. Ends in a letter or digit, so that the end of it is no matter of taste.
    pub fn b64u(&mut self, length: usize) -> String {
        let mut text = self.of(B64U, length - 1);
        text.push_str(&self.b62(1));
        text
    }

    pub fn b32(&mut self, length: usize) -> String {
        self.of("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", length)
    }

    pub fn lower(&mut self, length: usize) -> String {
        self.of("abcdefghijklmnopqrstuvwxyz", length)
    }

    pub fn upper(&mut self, length: usize) -> String {
        self.of("ABCDEFGHIJKLMNOPQRSTUVWXYZ", length)
    }

    pub fn uuid(&mut self) -> String {
        let variant = self.of("89ab", 1);
        format!("{}-{}-4{}-{variant}{}-{}", self.hex(8), self.hex(4), self.hex(3), self.hex(3), self.hex(12))
    }

    pub fn word(&mut self) -> &'static str {
        self.pick(WORDS)
    }

    pub fn words(&mut self, count: usize) -> String {
        (0..count).map(|_| self.word()).collect::<Vec<_>>().join(" ")
    }
}

const B62: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const B64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const B64U: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

const WORDS: &[&str] = &[
    "accept",
    "again",
    "because",
    "branch",
    "build",
    "cache",
    "change",
    "check",
    "client",
    "code",
    "compile",
    "config",
    "could",
    "deploy",
    "does",
    "error",
    "every",
    "fails",
    "file",
    "first",
    "fix",
    "function",
    "have",
    "help",
    "into",
    "is",
    "it",
    "line",
    "list",
    "main",
    "make",
    "migration",
    "module",
    "need",
    "not",
    "once",
    "output",
    "please",
    "queue",
    "read",
    "request",
    "result",
    "retry",
    "run",
    "server",
    "should",
    "still",
    "table",
    "test",
    "that",
    "the",
    "then",
    "this",
    "time",
    "update",
    "value",
    "we",
    "when",
    "why",
    "with",
    "work",
    "write",
];
