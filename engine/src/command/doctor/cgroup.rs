//! How much memory the control groups of this process leave it: in a container that is what counts,
//! not what the machine has.

use std::fs;
use std::path::Path;

/// Where control groups are, as a rule.
const ROOT: &str = "/sys/fs/cgroup";

/// The tightest limit, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What all in the group may take together.
    pub max: u64,
    /// What is left of it; the page cache that is given up on demand counts as left.
    pub left: u64,
}

/// The limit of this process, if there is one.
pub fn memory() -> Option<Memory> {
    tightest(Path::new(ROOT), &fs::read_to_string("/proc/self/cgroup").ok()?)
}

/// The files of a hierarchy that tell of memory.
struct Names {
    max: &'static str,
    used: &'static str,
    /// The line of `memory.stat` with what is given up on demand.
    cached: &'static str,
}

const UNIFIED: Names =
    Names { max: "memory.max", used: "memory.current", cached: "inactive_file " };
const LEGACY: Names = Names {
    max: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    cached: "total_inactive_file ",
};

/// The tightest limit of the groups that `text` (`/proc/self/cgroup`) names and of those around them.
fn tightest(root: &Path, text: &str) -> Option<Memory> {
    let mut found = Vec::new();
    for line in text.lines() {
        // number:controllers:path; the unified hierarchy has number 0 and names no controllers.
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (mount, names) = match controllers {
            "" => (root.to_owned(), &UNIFIED),
            some if some.split(',').any(|one| one == "memory") => (root.join("memory"), &LEGACY),
            _ => continue,
        };
        let own = mount.join(path.trim_start_matches('/'));
        // In a container the path may be the host's, and only the mount itself is there.
        found.extend(
            own.ancestors()
                .take_while(|folder| folder.starts_with(&mount))
                .filter_map(|folder| limit(folder, names)),
        );
    }
    found.into_iter().min_by_key(|limit| limit.left)
}

fn limit(folder: &Path, names: &Names) -> Option<Memory> {
    // Without a limit it says "max", or is more than any machine has.
    let number = |name| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    let max = number(names.max).filter(|max| *max < 1 << 60)?;
    let used = number(names.used)?;
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let cached = stat.lines().find_map(|line| line.strip_prefix(names.cached)?.parse().ok());
    Some(Memory { max, left: max.saturating_sub(used.saturating_sub(cached.unwrap_or(0))) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(folder: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(folder).expect("made");
        for (name, text) in files {
            fs::write(folder.join(name), text).expect("written");
        }
    }

    #[test]
    fn the_tightest_of_all_groups_around_counts() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path();
        group(root, &[("memory.stat", "")]);
        let pod = [("memory.max", "1000\n"), ("memory.current", "900\n")];
        group(&root.join("pod"), &pod);
        let stat = ("memory.stat", "anon 5\ninactive_file 100\nactive_file 3\n");
        let own = [("memory.max", "max\n"), ("memory.current", "700\n"), stat];
        group(&root.join("pod/box"), &own);
        assert_eq!(tightest(root, "0::/pod/box\n"), Some(Memory { max: 1000, left: 100 }));
        let own = [("memory.max", "750\n"), ("memory.current", "740\n"), stat];
        group(&root.join("pod/box"), &own);
        assert_eq!(tightest(root, "0::/pod/box\n"), Some(Memory { max: 1000, left: 100 }));
        group(&root.join("pod"), &[("memory.max", "9000\n")]);
        assert_eq!(tightest(root, "0::/pod/box\n"), Some(Memory { max: 750, left: 110 }));
        assert_eq!(tightest(root, "0::/\n"), None);
    }

    #[test]
    fn the_older_hierarchy_is_understood_also_where_the_path_is_the_hosts() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path();
        let files = [
            ("memory.limit_in_bytes", "500"),
            ("memory.usage_in_bytes", "400"),
            ("memory.stat", "inactive_file 1\ntotal_inactive_file 50\n"),
        ];
        group(&root.join("memory"), &files);
        let text = "12:cpu,cpuacct:/docker/7\n5:memory:/docker/7\n0::/docker/7\n";
        assert_eq!(tightest(root, text), Some(Memory { max: 500, left: 150 }));
        group(&root.join("memory"), &[("memory.limit_in_bytes", "9223372036854771712")]);
        assert_eq!(tightest(root, text), None);
        assert_eq!(tightest(root, "nonsense\n"), None);
    }
}
