//! The stages of the pipeline by name, so that the harness can leave one out and show what it is worth. The agent has them all,
//! and in what ships (without the feature `sim`) none can be left out.
//!
//! What belongs here: names. What does not: what they do.

/// A part of the pipeline that can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "sim", derive(clap::ValueEnum))]
pub enum Stage {
    /// Following the shake of the pole.
    Shake,
    /// Compensating slow light.
    Light,
    /// Texture beside brightness in the model.
    Texture,
    /// A radius per cell that learns.
    Feedback,
    /// Windows of cells measured against their noise, at night.
    LowLight,
    /// Shadow is background.
    Shadow,
    /// Changes of the whole scene.
    SceneChange,
    /// Light on an unchanged surface is no object (suppressed as `local_light`).
    LocalLight,
    /// What stands in the light is reported apart from it.
    Lit,
    /// A surface in another light is no object (suppressed as `light_change`).
    LightChange,
    /// A region must exceed what it always does.
    BackgroundActivity,
    /// Things that stand still are kept out of the background.
    Stand,
    /// A track that strays from its net path is not confirmed.
    StraightPath,
    /// What joins another or comes apart starts again.
    Like,
    /// Holes in objects are filled.
    HoleFill,
    /// A closer look while something undecided is in view.
    Closer,
    /// Key frames only while nothing happens.
    Sleep,
}

/// The stages that are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stages {
    /// A bit for each that is left out.
    #[cfg(any(test, feature = "sim"))]
    left_out: u32,
}

impl Stages {
    /// As the agent has them.
    pub const ALL: Stages = Stages {
        #[cfg(any(test, feature = "sim"))]
        left_out: 0,
    };

    /// All but some.
    #[cfg(any(test, feature = "sim"))]
    pub fn without(some: &[Stage]) -> Stages {
        Stages { left_out: some.iter().fold(0, |bits, stage| bits | 1 << *stage as u32) }
    }

    /// True when a stage is in use.
    #[cfg(any(test, feature = "sim"))]
    pub const fn has(self, stage: Stage) -> bool {
        self.left_out & 1 << stage as u32 == 0
    }

    /// Every stage is in use.
    #[cfg(not(any(test, feature = "sim")))]
    pub const fn has(self, _stage: Stage) -> bool {
        true
    }
}
