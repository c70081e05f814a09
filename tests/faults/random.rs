//! Chance that comes again: the same seed, the same choices (splitmix64).

#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap();
        usize::try_from(self.number() % bound).unwrap()
    }

    /// Yes in so many of a hundred cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of the names `{prefix}0`, `{prefix}1` and so on.
    pub fn name(&mut self, prefix: &str, count: usize) -> String {
        format!("{prefix}{}", self.below(count))
    }
}

/// The seed of a test: `PROTON_FAULTS_SEED`, or a new one. It is printed: a test that fails fails
/// again with it.
pub fn seed(test: &str) -> u64 {
    let seed = fixed_seed().unwrap_or_else(|| {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    });
    eprintln!("{test}: PROTON_FAULTS_SEED={seed}");
    seed
}

pub fn fixed_seed() -> Option<u64> {
    let seed = std::env::var("PROTON_FAULTS_SEED").ok()?;
    Some(seed.parse().expect("PROTON_FAULTS_SEED is a number"))
}
