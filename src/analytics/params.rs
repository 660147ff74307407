//! Every threshold of the motion room, with its unit and reason. Distances are in cells: the longest side of a picture has
//! [`SIDE`] of them, whatever its size in pixels.
//!
//! What belongs here: numbers. What does not: what is done with them.

/// Cells along the longest side of the judged picture: a person at 40 m is still 6 cells high, and the model costs milliseconds.
pub const SIDE: usize = 320;

/// Samples kept per cell (ViBe, Barnich and Van Droogenbroeck 2011, uses 20).
pub const SAMPLES: usize = 20;
/// Samples that must agree for a cell to be background.
pub const AGREE: u8 = 2;
/// Steps of 255 within which a sample agrees, before feedback: sensor noise after box scaling is below 4.
pub const RADIUS: f32 = 13.0;
/// Share of the radius that is left in the dark, where everything is reported apart by few steps, and the brightness from which on it
/// is whole.
pub const RADIUS_DARK: f32 = 0.45;
/// See [`RADIUS_DARK`]; steps of 255.
pub const RADIUS_BRIGHT: f32 = 100.0;
/// The radius grows to this much at most where the background is restless (a tree, water, noise at night).
pub const RADIUS_MAX: f32 = 60.0;
/// The radius is this many times the mean distance to the nearest samples (PBAS, Hofmann et al. 2012, uses 5; brightness and
/// texture together are twice as far apart).
pub const RESTLESS_SCALE: f32 = 2.5;
/// Seconds in which the mean distance of a cell follows.
pub const RESTLESS_SECONDS: f32 = 4.0;
/// Steps the radius of a cell grows with each unexplained change between background and not (SuBSENSE, St-Charles et al. 2015).
pub const BLINK_UP: f32 = 1.0;
/// Steps a second it shrinks by when nothing happens.
pub const BLINK_DOWN: f32 = 0.6;
/// Most steps that blinking adds.
pub const BLINK_MAX: f32 = 30.0;
/// Steps of difference that each of the eight texture bits weighs.
pub const TEXTURE_WEIGHT: u8 = 2;
/// A neighbour differs in the texture when it is this far from the cell, as a share of the cell (1 / 8), beside [`TEXTURE_NOISE`].
pub const TEXTURE_SHIFT: u32 = 3;
/// See [`TEXTURE_SHIFT`]; steps of 255.
pub const TEXTURE_NOISE: u8 = 6;
/// Seconds in which a background cell replaces one sample on average, and one of a neighbour's.
pub const RENEW: f32 = 3.2;
/// Seconds in which a cell that differs, and belongs to no confirmed object, replaces one sample on average.
pub const ABSORB: f32 = 6.0;
/// Seconds in which the mean brightness of a background cell follows.
pub const MEAN_SECONDS: f32 = 4.0;
/// Microseconds of warm-up without events after a start, a reconnect or a change of the whole scene.
pub const WARM_UP: u64 = 4_000_000;

/// Mean brightness below which a cell is dark; when half of them are it is night, and what is faint counts. Steps of 255.
pub const FAINT_DARK: f32 = 80.0;
/// Cells from the middle of a window to its sides, and up and down: a person far away fills it.
pub const FAINT_REACH: [usize; 2] = [3, 4];
/// Times its noise, in the mean of the squares, that a window must hold to show something faint. The highest of an
/// empty picture's windows holds 3.4 in the median and 5.9 at most: some noise passes, and is not followed.
pub const FAINT: f32 = 4.0;
/// The same for the nine cells around each cell of it: the window reaches beyond the object.
pub const FAINT_NEAR: f32 = 3.0;
/// Times its noise that one cell counts for at most: a bright drop is not a window full of them.
pub const FAINT_CLIP: f32 = 25.0;
/// Cells from the middle to the sides of the surroundings that a cell is seen beside: light lies over all of them.
pub const FAINT_WIDE: [usize; 2] = [12, 12];
/// Times the root of its noise that a cell adds to its surroundings at most: an object must not darken them.
pub const FAINT_AROUND: f32 = 3.0;
/// Pictures until the noise is known.
pub const FAINT_LOOKS: u32 = 12;
/// Times its noise up to which a cell's distance makes its noise grow: 97 % of noise lies within.
pub const FAINT_OUT: f32 = 9.0;
/// Square of the least noise that is confirmed, steps of 255: rounding alone is a third of a step.
pub const FAINT_FLOOR: f32 = 1.0;

/// Share of all cells that must differ at once for the scene itself to have changed.
pub const GLOBAL_SHARE: f32 = 0.45;
/// Share of the tiles in which [`GLOBAL_TILE`] of the cells must differ besides: a lorry near by fills half of the picture, the
/// light changes all of it.
pub const GLOBAL_TILES: f32 = 0.70;
/// See [`GLOBAL_TILES`].
pub const GLOBAL_TILE: f32 = 0.25;
/// Median brightness ratio between two pictures that is a step of exposure, not a cloud.
pub const LIGHT_STEP: f32 = 1.10;
/// Microseconds between two pictures within which a step is one.
pub const STEP_WITHIN: u64 = 600_000;
/// Compensated brightness ratio beyond which the model itself is scaled: clouds stay within, dusk passes it in minutes.
pub const LIGHT_DRIFT: f32 = 1.30;
/// Median chroma distance from grey, steps of 255, below which there is no colour, and above which there is again.
pub const GREY_BELOW: f32 = 1.5;
/// See [`GREY_BELOW`].
pub const COLOUR_ABOVE: f32 = 3.5;
/// Microseconds nothing is judged after a change of the whole scene.
pub const HOLD: u64 = 1_200_000;
/// Microseconds for which GOPs must have ended alike until the picture counts as frozen, and differently until it is over: two GOPs
/// of 2 s, one of those that are longer. Noise never repeats.
pub const FROZEN_AFTER: u64 = 3_500_000;
/// Mean distance of the cells below which two GOPs end alike, steps of 255. Measured: 0.00 for a frozen picture at a quality or a
/// steady rate; 0.19 and more for live scenes with noise of two steps, 1080p and 360p.
pub const SAME_WITHIN: f32 = 0.04;
/// The same as a share of what is usual, which lies within a tenth of itself: an encoder with bits to spare polishes a frozen picture
/// for seconds, and every GOP ends a little better.
pub const SAME_SHARE: f32 = 0.25;
/// Share by which what is usual follows each GOP.
pub const USUAL_FOLLOWS: f32 = 0.10;
/// Steps that a cell counts for at most in either.
pub const NOISE_MOST: u8 = 4;
/// Steps that no cell may be further apart where two GOPs end alike: what moves, however little of it, is no rounding.
pub const SAME_CELL: u8 = 2;
/// Cells of shake that are followed; beyond it the camera has moved.
pub const SHAKE_MAX: f32 = 3.0;
/// Cells of shake that are left alone: resampling costs more sharpness than so little shake.
pub const SHAKE_MIN: f32 = 0.12;

/// Microseconds between two looks for tampering: it is slow, and lasts.
pub const TAMPER_EVERY: u64 = 500_000;
/// Microseconds a mark of tampering must last: longer than a lorry at the kerb takes to pull away, and well within ten seconds.
pub const TAMPER_LASTS: u64 = 5_000_000;
/// Seconds in which the usual look of the scene follows the day.
pub const TAMPER_SECONDS: f32 = 60.0;
/// Looks until the usual look is known.
pub const TAMPER_WARM: u32 = 8;
/// Mean brightness below which a picture is black, and the spread of its blocks; steps of 255.
pub const BLACK_BELOW: f32 = 20.0;
/// See [`BLACK_BELOW`].
pub const BLACK_EVEN: f32 = 4.0;
/// Correlation of the blocks' brightness with the usual above which it is the same place.
pub const SAME_PLACE: f32 = 0.60;
/// Share of the usual sharpness below which the lens is out of focus.
pub const BLUR_SHARE: f32 = 0.60;
/// Share of the usual edges below which another view is no view: something covers the lens.
pub const COVER_SHARE: f32 = 0.50;
/// Share of the usual contrast below which the lens is covered, however faintly the scene shines through.
pub const COVER_EVEN: f32 = 0.20;
/// Correlation of edges that normal pictures must have before it says anything (noise at night has none).
pub const KNOWN_EDGES: f32 = 0.40;
/// Share of that correlation below which the camera looks elsewhere.
pub const ELSEWHERE: f32 = 0.40;

/// Cells of the smallest object at sensitivity 5: a person far away.
pub const BLOB_MIN: f32 = 36.0;
/// Share of the picture above which a blob is no object but light or weather.
pub const BLOB_MAX_SHARE: f32 = 0.5;
/// 80th percentile of the change of log brightness between neighbours inside a blob below which it is light on an unchanged
/// surface, not an object.
pub const LIGHT_GRADIENT: f32 = 0.05;
/// Cells inside a blob, away from its edge, that must be there to say anything about its light.
pub const LOCAL_LIGHT_CELLS: usize = 12;
/// Cells from which on a region may be light with something in it.
pub const LIT_MIN: f32 = 600.0;
/// Cells to each side of one whose shade says whether it is merely lit.
pub const LIT_REACH: usize = 3;
/// Share of those cells that must have an edge of shade in what stands in the light.
pub const LIT_ROUGH: f32 = 0.25;
/// Share of a region that may stand in its light: else it is no light.
pub const LIT_SHARE: f32 = 0.35;
/// Correlation of a blob's fine structure with the background's above which it is the background, lit otherwise.
pub const LIGHT_CHANGE: f32 = 0.80;
/// Steps of fine structure a background must have before [`LIGHT_CHANGE`] says anything: more than noise.
pub const LIGHT_CHANGE_ROUGH: f32 = 3.0;
/// Cells of the largest gap that is filled: the windows of a lorry near by.
pub const HOLE_MAX: usize = 1500;
/// Share of an object's height, from below, that can be the shadow it stands in.
pub const CONTACT_MOST: f32 = 0.20;
/// Shade that shadow under an object has at least where it is darkest, 64 steps an octave: a third of the light is left.
pub const CONTACT_DARK: i16 = -100;
/// Steps by which shade may vary on its way into the shadow.
pub const CONTACT_NOISE: i16 = 6;
/// Side of the tiles in which restlessness of a region is remembered, cells.
pub const TILE: usize = 8;
/// Seconds in which a tile's restlessness follows.
pub const CHURN_SECONDS: f32 = 15.0;
/// A blob must have this many times the cells that its region differs in anyway.
pub const CHURN_TIMES: f32 = 4.0;

/// Pictures an object must be seen in to be confirmed.
pub const HITS: u32 = 4;
/// Share of the pictures since it was first seen that an object must be seen in to be confirmed: what is here and there, as insects
/// are, is not one object.
pub const DENSE: f32 = 0.7;
/// Cells an object must have travelled from where it was first seen.
pub const TRAVEL: f32 = 4.0;
/// Times its own size an object must travel more where all of it is no more than its region does anyway: leaves jump by their size.
pub const RESTLESS_TRAVEL: f32 = 3.0;
/// Cells an object must travel more where its region is restless now and then: a gust throws leaves so far where hardly anything moves on
/// average.
pub const GUST: f32 = 16.0;
/// Share of an object that its region must do anyway for all of [`GUST`], and for less as much less: people in the ten clips of
/// disturbances have 0.003 at most.
pub const GUSTY: f32 = 0.032;
/// Cells by which an object may have been elsewhere than its velocity led, for each cell it has come from where it was first seen:
/// insects and leaves dart.
pub const ASTRAY: f32 = 0.3;
/// Microseconds an object may be unseen and still be itself.
pub const COAST: u64 = 700_000;
/// Times its size by which an undecided object may grow or shrink between two pictures and still be itself: beyond it has joined
/// another or come apart.
pub const LIKE: f32 = 3.0;
/// Cells within which a blob continues a track, beside the track's own size.
pub const REACH: f32 = 14.0;
/// Tracks at once at most: beyond it is a crowd or rain, and both are one event.
pub const TRACKS_MAX: usize = 64;
/// Microseconds after its last movement in which a confirmed object is kept out of the background: people wait at a kerb so long.
pub const STAND_MAX: u64 = 30_000_000;
/// Cells an object must go within a second to be moving and not standing.
pub const STEP: f32 = 2.0;
/// Microseconds after the last object of an event has gone in which another still belongs to the event.
pub const GONE_AFTER: u64 = 1_500_000;

/// Microseconds between two updates of an event.
pub const UPDATE_EVERY: u64 = 1_000_000;
/// Degrees of turn that are worth an update.
pub const TURN: f32 = 45.0;
/// Microseconds without a picture until the detector calls itself blind.
pub const BLIND_AFTER: u64 = 10_000_000;
/// Microseconds somebody who asks for a picture waits for it: asleep, the analyzer decodes key frames only, and the longest GOP cameras are
/// set to in practice is 10 s.
pub const GLANCE_WITHIN: u64 = 15_000_000;
/// Microseconds after its start at which an event's still is sent, if the event lasts that long.
pub const STILL_AFTER: u64 = 3_000_000;
/// Bytes of access units the sight lane holds: about one GOP of a 2 Mbit/s stream, twice over.
pub const LANE_BYTES: usize = 2 << 20;
/// Largest picture decoded, pixels: 4K. A camera that claims more is lying or hostile.
pub const PIXELS_MAX: usize = 3840 * 2160;
/// Cells from the picture's edge within which an object comes in or goes out.
pub const EDGE: f32 = 3.0;
/// Microseconds in view after which an object that is not confirmed yet is scenery that moves.
pub const STUBBORN: u64 = 3_000_000;

/// Pictures a second while something undecided is in view: four hits within half a second.
pub const CLOSER_FPS: f32 = 10.0;
/// Pictures held back at most to bring a stream with B-frames into order.
pub const ORDER_MAX: usize = 4;
/// Microseconds without anything in view after which only key frames are decoded.
pub const SLEEP_AFTER: u64 = 3_000_000;
/// Bytes of access units held while asleep: two GOPs of 4 s at 4 Mbit/s.
pub const HELD_BYTES: usize = 4 << 20;
/// Access units held while asleep: two GOPs of 10 s at 25 pictures a second. Decoding them takes about a second.
pub const HELD_FRAMES: usize = 500;
/// Microseconds of sizes that make a baseline.
pub const SIZES_KNOWN: u64 = 6_000_000;
/// Microseconds of sizes that are remembered.
pub const SIZES_SECONDS: u64 = 60_000_000;
/// Sizes that are remembered at most: a minute at 30 pictures a second.
pub const SIZES_MAX: usize = 1800;
/// Sizes whose mean is compared with the baseline.
pub const SIZES_MEAN: usize = 3;
/// Access units after a key frame that say nothing: they mend what it left coarse, and it is itself looked at.
pub const SIZES_SETTLE: usize = 2;
/// Median deviations above the median at which the baseline is left.
pub const SIZES_MAD: f32 = 3.5;
/// Median deviation, as a share of the median, above which sizes say nothing (noise, a struggling rate control): then there is no
/// sleep, because nothing would end it in time.
pub const SIZES_WILD: f32 = 0.30;
/// Microseconds over which the share of a core is measured.
pub const STRAIN_WINDOW: u64 = 5_000_000;
/// Windows in a row below a third of the budget after which more is tried again.
pub const STRAIN_EASY: u32 = 6;
/// Degrees Celsius a board must cool below its limit before more is tried again.
pub const COOLER: u8 = 5;
