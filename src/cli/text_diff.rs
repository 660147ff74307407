//! Line diff of two texts.
//!
//! What belongs here: the diff. What does not: the meaning of the lines.

/// Most lines of a text that are compared; a configuration has some hundred.
const LINES_MAX: usize = 3000;

/// Removed (`-`) and added (`+`) lines in order, by the longest common subsequence (Wagner and Fischer 1974).
pub fn diff(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    if old.len().max(new.len()) > LINES_MAX {
        return "(too long to be compared)\n".into();
    }
    let width = new.len() + 1;
    let mut common = vec![0_u16; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            let (below, right) = (common[(i + 1) * width + j], common[i * width + j + 1]);
            common[i * width + j] = if old[i] == new[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                below.max(right)
            };
        }
    }
    let (mut i, mut j, mut text) = (0, 0, String::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == new.len()
            || i < old.len() && common[(i + 1) * width + j] >= common[i * width + j + 1]
        {
            text.push_str(&format!("-{}\n", old[i]));
            i += 1;
        } else {
            text.push_str(&format!("+{}\n", new[j]));
            j += 1;
        }
    }
    if text.is_empty() { "(no difference)\n".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_go_or_come_are_shown() {
        assert_eq!(diff("a\nb\nc\n", "a\nB\nc\nd\n"), "-b\n+B\n+d\n");
        assert_eq!(diff("a\n", "a\n"), "(no difference)\n");
        assert_eq!(diff("", "x\n"), "+x\n");
    }
}
