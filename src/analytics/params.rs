//! Parameters of the analysis: every threshold with its unit and reason.
//!
//! Distances are in cells: the longest side of a picture has [`SIDE`] of them, whatever its size in
//! pixels. Brightness is in steps of 255.

use std::time::Duration;

/// Cells along the longest side of an analysed picture. A person at 40 m is still 6 cells high, and
/// the model costs milliseconds.
pub const SIDE: usize = 320;

/// Samples kept per cell (ViBe, Barnich and Van Droogenbroeck 2011, uses 20).
pub const SAMPLES: usize = 20;
/// Samples that must agree for a cell to be background.
pub const AGREE: u8 = 2;
/// Distance below which a sample agrees, before feedback, in steps of 255: sensor noise after
/// scaling is below 4.
pub const RADIUS: f32 = 13.0;
/// Share of the radius that remains in the dark, where objects differ by few steps. It grows to 1
/// at [`RADIUS_BRIGHT`].
pub const RADIUS_DARK: f32 = 0.45;
/// Brightness from which on the radius is whole, steps of 255. See [`RADIUS_DARK`].
pub const RADIUS_BRIGHT: f32 = 100.0;
/// Largest radius, where the background is noisy (a tree, water, noise at night), steps of 255.
pub const RADIUS_MAX: f32 = 60.0;
/// Radius as a multiple of the mean distance to the nearest samples (PBAS, Hofmann et al. 2012,
/// uses 5; brightness and texture together are twice as far apart).
pub const RESTLESS_SCALE: f32 = 2.5;
/// Time constant of the mean distance of a cell, seconds.
pub const RESTLESS_SECONDS: f32 = 4.0;
/// Steps that each unexplained change between background and foreground adds to the radius
/// (SuBSENSE, St-Charles et al. 2015).
pub const BLINK_UP: f32 = 1.0;
/// Steps a second that this addition loses without changes.
pub const BLINK_DOWN: f32 = 0.6;
/// Largest addition to the radius by these changes, steps.
pub const BLINK_MAX: f32 = 30.0;
/// Distance that each differing texture bit adds, steps.
pub const TEXTURE_WEIGHT: u8 = 2;
/// A texture bit is set when the neighbour differs by more than this share of the cell (a shift: 3
/// means 1 / 8) plus [`TEXTURE_NOISE`].
pub const TEXTURE_SHIFT: u32 = 3;
/// Sensor noise that sets no texture bit, steps of 255. See [`TEXTURE_SHIFT`].
pub const TEXTURE_NOISE: u8 = 6;
/// Mean time in which a background cell replaces one of its samples and receives one of a
/// neighbour, seconds.
pub const RENEW: f32 = 3.2;
/// Mean time in which a foreground cell without an object replaces one sample, seconds.
pub const ABSORB: f32 = 6.0;
/// Time constant of the mean brightness of a background cell, seconds.
pub const MEAN_SECONDS: f32 = 4.0;
/// Warm-up without events after a start, a reconnect or a change of the whole scene.
pub const WARM_UP: Duration = Duration::from_secs(4);

/// Mean brightness below which a cell is dark, steps of 255. When half of the cells are dark,
/// low-light detection is on.
pub const FAINT_DARK: f32 = 80.0;
/// Cells from the centre of a window to its sides, across and down: a person far away fills it.
pub const FAINT_REACH: [usize; 2] = [3, 4];
/// Mean square of a window, in multiples of its noise, above which it holds a faint object. The
/// highest window of an empty picture has 3.4 in the median and 5.9 at most: some noise passes and
/// is never confirmed.
pub const FAINT: f32 = 4.0;
/// The same for the nine cells around each cell of the window, because the window is larger than
/// the object.
pub const FAINT_NEAR: f32 = 3.0;
/// Largest contribution of one cell, in multiples of its noise: a bright rain drop must not fill a
/// window.
pub const FAINT_CLIP: f32 = 25.0;
/// Cells from the centre to the sides of the surroundings that a cell is compared with: light
/// covers all of them.
pub const FAINT_WIDE: [usize; 2] = [12, 12];
/// Largest contribution of a cell to its surroundings, in multiples of the root of its noise: an
/// object must not hide itself.
pub const FAINT_AROUND: f32 = 3.0;
/// Pictures until the noise is known.
pub const FAINT_LOOKS: u32 = 12;
/// Largest square of a distance that is learned as noise, in multiples of the noise: 97 % of noise
/// is below.
pub const FAINT_OUT: f32 = 9.0;
/// Least noise that is assumed, as a mean square in steps of 255: rounding alone is a third of a
/// step.
pub const FAINT_FLOOR: f32 = 1.0;

/// Share of all cells that must differ at once for a change of the whole scene.
pub const GLOBAL_SHARE: f32 = 0.45;
/// Share of the tiles that must also have [`GLOBAL_TILE`] of their cells in the foreground. A lorry
/// near by fills half of the picture; light changes all of it.
pub const GLOBAL_TILES: f32 = 0.70;
/// Share of the cells in each of these tiles. See [`GLOBAL_TILES`].
pub const GLOBAL_TILE: f32 = 0.25;
/// Median brightness ratio of two pictures above which it is a step of exposure and not a cloud.
pub const LIGHT_STEP: f32 = 1.10;
/// Longest time between two pictures whose ratio counts as a step.
pub const STEP_WITHIN: Duration = Duration::from_millis(600);
/// Compensated brightness ratio beyond which the model itself is scaled. Clouds stay within; dusk
/// passes it in minutes.
pub const LIGHT_DRIFT: f32 = 1.30;
/// Median chroma distance from grey below which a picture has no colour, steps of 255.
pub const GREY_BELOW: f32 = 1.5;
/// Distance above which it has colour again. See [`GREY_BELOW`].
pub const COLOUR_ABOVE: f32 = 3.5;
/// Time without object reports after a change of the whole scene.
pub const HOLD: Duration = Duration::from_millis(1200);
/// Time for which GOPs must end alike until the picture counts as frozen, and differently until
/// that ends: two GOPs of 2 s, or one longer GOP. Noise never repeats.
pub const FROZEN_AFTER: Duration = Duration::from_millis(3500);
/// Mean distance of the cells below which two GOPs end alike, steps of 255. Measured: 0.00 for a
/// frozen picture at constant quality or rate; 0.19 and more for live scenes with noise of two
/// steps, 1080p and 360p.
pub const SAME_MEAN: f32 = 0.04;
/// The same as a share of the usual distance, which varies by a tenth. An encoder with spare bits
/// refines a frozen picture for seconds, and every GOP ends a little better.
pub const SAME_SHARE: f32 = 0.25;
/// Share by which the usual distance follows each GOP.
pub const USUAL_FOLLOWS: f32 = 0.10;
/// Largest contribution of a cell to either distance, steps.
pub const NOISE_MOST: u8 = 4;
/// Largest distance of any cell between two GOPs that end alike, steps: a small moving object
/// exceeds rounding.
pub const SAME_CELL: u8 = 2;
/// Largest shake that is compensated, cells. Beyond it the camera has moved.
pub const SHAKE_MAX: f32 = 3.0;
/// Shake below this is not compensated, cells: resampling would cost more sharpness.
pub const SHAKE_MIN: f32 = 0.12;

/// Interval of the tampering checks: tampering is slow and lasts.
pub const TAMPER_INTERVAL: Duration = Duration::from_millis(500);
/// Time that a sign of tampering must last before it is reported: longer than a lorry at the kerb
/// takes to pull away, and well within ten seconds.
pub const TAMPER_LASTS: Duration = Duration::from_secs(5);
/// Time constant of the usual appearance of the scene, seconds: it follows the day.
pub const TAMPER_SECONDS: f32 = 60.0;
/// Checks until the usual appearance is known.
pub const TAMPER_WARM: u32 = 8;
/// Mean brightness below which a picture is black, steps of 255.
pub const BLACK_BELOW: f32 = 20.0;
/// Spread of the block brightness below which it is black. See [`BLACK_BELOW`].
pub const BLACK_EVEN: f32 = 4.0;
/// Correlation of the block brightness with the usual one above which the camera shows the same
/// place.
pub const SAME_PLACE: f32 = 0.60;
/// Share of the usual sharpness below which the lens is out of focus.
pub const BLUR_SHARE: f32 = 0.60;
/// Share of the usual edge strength below which the lens is covered and the camera has not moved.
pub const COVER_SHARE: f32 = 0.50;
/// Share of the usual contrast below which the lens is covered, even when the scene shines through.
pub const COVER_EVEN: f32 = 0.20;
/// Correlation of edges that normal pictures must have before a move is reported. Noise at night
/// has none.
pub const KNOWN_EDGES: f32 = 0.40;
/// Share of that correlation below which the camera shows another view.
pub const ELSEWHERE: f32 = 0.40;

/// Area of the smallest object at sensitivity 5, cells: a person far away.
pub const BLOB_MIN: f32 = 36.0;
/// Share of the picture above which a blob is light or weather and no object.
pub const BLOB_MAX_SHARE: f32 = 0.5;
/// 80th percentile of the change of log brightness between neighbours inside a blob, below which
/// the blob is light on an unchanged surface.
pub const LIGHT_GRADIENT: f32 = 0.05;
/// Inner cells that a blob must have for this test.
pub const LOCAL_LIGHT_CELLS: usize = 12;
/// Area from which on a region may be light with objects in it, cells.
pub const LIT_MIN: f32 = 600.0;
/// Cells to each side of the window that decides whether a cell is only lit.
pub const LIT_REACH: usize = 3;
/// Share of these cells that must have an edge of shade where an object stands in the light.
pub const LIT_ROUGH: f32 = 0.25;
/// Largest share of a region that its objects may cover; above it the region is no light.
pub const LIT_SHARE: f32 = 0.35;
/// Correlation of a blob's fine structure with that of the background, above which the blob is
/// background in another light.
pub const LIGHT_CHANGE: f32 = 0.80;
/// Fine structure that a background must have for [`LIGHT_CHANGE`], steps of 255: more than noise.
pub const LIGHT_CHANGE_ROUGH: f32 = 3.0;
/// Area of the largest gap that is filled, cells: the windows of a lorry near by.
pub const HOLE_MAX: usize = 1500;
/// Share of an object's height, from below, that can be its contact shadow.
pub const CONTACT_MOST: f32 = 0.20;
/// Shade that the darkest part of a contact shadow has at most, 64 steps an octave: a third of the
/// light is left.
pub const CONTACT_DARK: i16 = -100;
/// Steps by which shade may vary on its way into the shadow.
pub const CONTACT_NOISE: i16 = 6;
/// Side of the tiles of the activity map, cells.
pub const TILE: usize = 8;
/// Seconds in which a tile's restlessness follows.
pub const CHURN_SECONDS: f32 = 15.0;
/// A blob must have this many times the cells that its region differs in anyway.
pub const CHURN_TIMES: f32 = 4.0;

/// Detections that an object needs to be confirmed.
pub const HITS: u32 = 4;
/// Share of the pictures since its first detection in which an object must be detected to be
/// confirmed. It rejects intermittent blobs such as insects.
pub const DENSE: f32 = 0.7;
/// Distance that an object must have travelled from its first position to be confirmed, cells.
pub const TRAVEL: f32 = 4.0;
/// Additional distance, in multiples of its size, where the activity map explains all of an object:
/// leaves jump by their own size.
pub const RESTLESS_TRAVEL: f32 = 3.0;
/// Additional distance where a region is active now and then, cells: a gust throws leaves so far,
/// even where little moves on average.
pub const GUST: f32 = 16.0;
/// Share of an object that its region must explain for all of [`GUST`]; a smaller share adds
/// proportionally less. People in the ten clips of disturbances have 0.003 at most.
pub const GUSTY: f32 = 0.032;
/// Largest deviation from the predicted positions, as a share of the distance from the first
/// position: insects and leaves dart.
pub const DEVIATION: f32 = 0.3;
/// Time that an object may be undetected before it is lost.
pub const COAST: Duration = Duration::from_millis(700);
/// Factor by which a tentative object may grow or shrink between two pictures. Beyond it, it has
/// merged or split and starts again.
pub const SIZE_RATIO: f32 = 3.0;
/// Distance within which a blob continues a track, cells; half of the track's own size is added.
pub const REACH: f32 = 14.0;
/// Most tracks at once. More is a crowd or rain, and one event covers both.
pub const TRACKS_MAX: usize = 64;
/// Time after its last movement in which a confirmed object is not learned as background:
/// pedestrians wait at a kerb so long.
pub const STAND_MAX: Duration = Duration::from_secs(30);
/// Distance that counts as movement, cells; an object that does not move so far in a second stands.
pub const STEP: f32 = 2.0;
/// Time after the last object of an event has left in which another object joins the event.
pub const GONE_AFTER: Duration = Duration::from_millis(1500);

/// Least time between two updates of an event.
pub const UPDATE_INTERVAL: Duration = Duration::from_secs(1);
/// Change of direction that causes an update, degrees.
pub const TURN: f32 = 45.0;
/// Time without a picture until analytics counts as unavailable.
pub const UNAVAILABLE_AFTER: Duration = Duration::from_secs(10);
/// Time limit of a requested snapshot. An analyzer that sleeps decodes key frames only, and 10 s is
/// the longest GOP set on cameras in practice.
pub const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(15);
/// Time after the start of an event at which its snapshot is sent. A shorter event sends it at its
/// end.
pub const SNAPSHOT_AFTER: Duration = Duration::from_secs(3);
/// Time after a change of size in which the next one does not start the learning again: the camera
/// takes turns, and each warm-up would miss [`WARM_UP`] of it.
pub const RESIZED_AGAIN: Duration = Duration::from_secs(60);
/// Time without a learned scene after which analytics counts as unavailable: longer than a warm-up
/// and the holds of a thunderstorm.
pub const LEARNING_MAX: Duration = Duration::from_secs(30);
/// Size of the frame queue of the analytics thread, bytes: about two GOPs of a 2 Mbit/s stream.
pub const QUEUE_BYTES: usize = 2 << 20;
/// Largest picture that is decoded, pixels: 4K. A larger claim is a fault or an attack.
pub const PIXELS_MAX: usize = 3840 * 2160;
/// Distance from the edge of the picture within which an object enters or leaves, cells.
pub const EDGE: f32 = 3.0;
/// Time in view after which a tentative object counts as moving scenery.
pub const SCENERY_AFTER: Duration = Duration::from_secs(3);

/// Pictures a second while a tentative object is in view: four detections within half a second.
pub const CLOSER_FPS: f32 = 10.0;
/// Most pictures held back to put a stream with B-frames into display order.
pub const REORDER_MAX: usize = 4;
/// Time without objects after which only key frames are decoded.
pub const SLEEP_AFTER: Duration = Duration::from_secs(3);
/// Most bytes of access units buffered while asleep: two GOPs of 4 s at 4 Mbit/s.
pub const BUFFERED_BYTES: usize = 4 << 20;
/// Most access units buffered while asleep: two GOPs of 10 s at 25 pictures a second. Decoding them
/// takes about a second.
pub const BUFFERED_FRAMES: usize = 500;
/// Time that the access unit sizes must cover for a baseline.
pub const SIZES_KNOWN: Duration = Duration::from_secs(6);
/// Time after which a size is forgotten.
pub const SIZES_REMEMBERED: Duration = Duration::from_secs(60);
/// Most sizes that are remembered: a minute at 30 pictures a second.
pub const SIZES_MAX: usize = 1800;
/// Number of sizes whose mean is compared with the baseline.
pub const SIZES_MEAN: usize = 3;
/// Access units after a key frame that are ignored: they refine its coarse picture, and the key
/// frame itself is analysed.
pub const SIZES_SETTLE: usize = 2;
/// Median absolute deviations above the median at which the trigger fires.
pub const SIZES_MAD: f32 = 3.5;
/// Median absolute deviation, as a share of the median, above which there is no baseline (noise, an
/// unstable rate control). Then the analyzer does not sleep, because sizes could not wake it in
/// time.
pub const SIZES_SPREAD_MAX: f32 = 0.30;
/// Time over which the share of a core is measured.
pub const LOAD_WINDOW: Duration = Duration::from_secs(5);
/// Windows in a row below a third of the budget after which the rate rises again.
pub const LOAD_EASY: u32 = 6;
/// Degrees Celsius that a board must cool below its limit before the rate rises again.
pub const COOL_DOWN: u8 = 5;
