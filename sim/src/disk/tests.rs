//! The disk's calls, its faults, and what power cuts leave.

use super::*;
use crate::cause::Cause;

fn disk(capacity: u64, seed: u64) -> Disk {
    Disk::new(capacity, Stream::new(seed))
}

fn contents(disk: &mut Disk, path: &str) -> Option<Vec<u8>> {
    let ino = disk.open(Path::new(path), Open::Read).ok()?;
    let bytes = disk.peek(ino, 0, disk.length(ino) as usize);
    disk.close(ino);
    Some(bytes)
}

#[test]
fn a_flushed_and_named_file_survives_every_power_cut() {
    let (mut nameless, mut named) = (0, 0);
    for seed in 0..100 {
        let mut disk = disk(1 << 20, seed);
        disk.make_dir(Path::new("/d")).expect("made");
        let sync = disk.sync_dir_begin(Path::new("/")).expect("there");
        disk.sync_dir_end(sync).expect("synced");
        for (path, with_name) in [("/d/a", true), ("/d/b", false)] {
            let ino = disk.open(Path::new(path), Open::CreateNew).expect("created");
            disk.write(ino, 0, &[b"hel", b"lo"]).expect("written");
            let flush = disk.sync_begin(ino);
            disk.sync_end(ino, &flush).expect("flushed");
            if with_name {
                let sync = disk.sync_dir_begin(Path::new("/d")).expect("there");
                disk.sync_dir_end(sync).expect("synced");
            }
        }
        disk.power_loss();
        assert_eq!(contents(&mut disk, "/d/a").as_deref(), Some(&b"hello"[..]));
        match contents(&mut disk, "/d/b") {
            Some(bytes) => {
                assert_eq!(bytes, b"hello");
                named += 1;
            }
            None => nameless += 1,
        }
    }
    assert!(named > 10 && nameless > 10, "{named} {nameless}");
}

#[test]
fn a_full_disk_writes_what_fits_and_recovers() {
    let mut disk = disk(2 * PAGE as u64, 1);
    let ino = disk.open(Path::new("f"), Open::Create).expect("created");
    assert_eq!(disk.write(ino, 0, &[&[1; 3 * PAGE]]).expect("short"), 2 * PAGE);
    let error = disk.write(ino, 2 * PAGE as u64, &[&[1]]).expect_err("full");
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(disk.write(ino, 0, &[&[2; PAGE]]).expect("room is there"), PAGE);
    let error = disk.open(Path::new("g"), Open::Create).expect_err("no room for a name");
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    disk.truncate(ino, 10).expect("no faults");
    assert_eq!(disk.free(), PAGE as u64);
    disk.remove(Path::new("f")).expect("removed");
    assert_eq!(disk.used(), PAGE as u64, "still open");
}

#[test]
fn a_removed_file_lives_on_while_it_is_open_and_frees_its_room() {
    let mut disk = disk(1 << 20, 1);
    let ino = disk.open(Path::new("f"), Open::Create).expect("created");
    disk.write(ino, 0, &[b"x"]).expect("written");
    let sync = disk.sync_dir_begin(Path::new("/")).expect("there");
    disk.sync_dir_end(sync).expect("synced");
    disk.remove(Path::new("/f")).expect("removed");
    assert_eq!(disk.peek(ino, 0, 1), b"x");
    assert_eq!(disk.used(), PAGE as u64);
    disk.close(ino);
    assert_eq!(disk.used(), 0);
    let error = disk.open(Path::new("f"), Open::Write).expect_err("gone");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

/// What `trouble` does, in a disk with a file of eight sectors that is written and flushed.
fn ailing(trouble: Trouble) -> (Disk, Ino) {
    let mut disk = disk(1 << 20, 3);
    let ino = disk.open(Path::new("/a.index"), Open::Create).expect("created");
    disk.write(ino, 0, &[&[7; 8 * SECTOR]]).expect("written");
    let flush = disk.sync_begin(ino);
    disk.sync_end(ino, &flush).expect("flushed");
    let used = disk.used();
    disk.troubles.add(Cause(1), trouble, used, 0);
    (disk, ino)
}

#[test]
fn each_sort_of_call_fails_as_often_as_it_is_to_and_no_other() {
    let sync = |disk: &mut Disk, ino| {
        let flush = disk.sync_begin(ino);
        disk.sync_end(ino, &flush)
    };
    let sync_dir = |disk: &mut Disk| {
        let sync = disk.sync_dir_begin(Path::new("/")).expect("there");
        disk.sync_dir_end(sync)
    };
    let calls = [
        Call::Open,
        Call::Name,
        Call::Read,
        Call::Write,
        Call::Sync,
        Call::SyncDir,
        Call::Allocate,
        Call::Truncate,
        Call::Look,
        Call::Space,
    ];
    for failing in calls {
        let (mut disk, ino) = ailing(Trouble::Fails(failing, 1));
        for round in 0..2 {
            for call in calls {
                let failed = match call {
                    Call::Open => disk.open(Path::new("/a.index"), Open::Read).is_err(),
                    Call::Name => disk.make_dir(Path::new(&format!("/{round}"))).is_err(),
                    Call::Read => disk.read(ino, 0, &mut [0; 10]).is_err(),
                    Call::Write => disk.write(ino, 0, &[b"abc"]).is_err(),
                    Call::Sync => sync(&mut disk, ino).is_err(),
                    Call::SyncDir => sync_dir(&mut disk).is_err(),
                    Call::Allocate => disk.allocate(ino, 0, 10).is_err(),
                    Call::Truncate => disk.truncate(ino, 8 * SECTOR as u64).is_err(),
                    Call::Look => disk.list(Path::new("/")).is_err(),
                    Call::Space => disk.space(Path::new("/")).is_err(),
                };
                assert_eq!(failed, call == failing && round == 0, "{call:?} of {failing:?}");
            }
        }
        assert_eq!(disk.hurt, failing != Call::Space, "of room nobody says a final word");
        assert_eq!(disk.troubles.bites.of(Cause(1)), 1);
    }
}

#[test]
fn a_file_that_does_not_say_how_long_it_is_says_so_later() {
    let (mut disk, ino) = ailing(Trouble::Fails(Call::Look, 1));
    disk.tell_length(ino).expect_err("an ailing disk");
    assert!(disk.hurt);
    assert_eq!(disk.tell_length(ino).expect("it has passed"), 8 * SECTOR as u64);
}

#[test]
fn transfers_are_short_or_interrupted_and_unused_room_is_poisoned() {
    let (mut disk, ino) = ailing(Trouble::Short(1000));
    let mut bytes = [0; 100];
    let count = disk.read(ino, 0, &mut bytes).expect("read");
    assert!((1..100).contains(&count));
    assert!(bytes[..count].iter().all(|&byte| byte == 7));
    assert!(bytes[count..].iter().all(|&byte| byte == POISON));
    assert!(disk.write(ino, 0, &[&[1; 100]]).expect("written") < 100);
    let (mut disk, ino) = ailing(Trouble::Interrupted(1000));
    let error = disk.read(ino, 0, &mut bytes).expect_err("interrupted");
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    let error = disk.write(ino, 0, &[&[1; 100]]).expect_err("interrupted");
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_eq!(disk.peek(ino, 0, 100), [7; 100]);
    let (mut disk, ino) = ailing(Trouble::NoDescriptors);
    let refused = disk.open(Path::new("/other"), Open::Create).expect_err("no descriptor");
    assert!(trialog_engine::io::is_scarce(&refused) && !disk.hurt);
    assert_eq!(disk.write(ino, 0, &[b"what is open stays so"]).expect("open"), 21);

    let (mut disk, ino) = ailing(Trouble::NoAllocation);
    let error = disk.allocate(ino, 0, 1 << 16).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn a_full_disk_has_room_again_when_its_fault_ends() {
    let (mut disk, ino) = ailing(Trouble::Full(PAGE as u64));
    assert_eq!(disk.free(), PAGE as u64, "a broker that asks is told");
    assert_eq!(disk.write(ino, PAGE as u64, &[&[1; 3 * PAGE]]).expect("a part"), PAGE);
    let error = disk.write(ino, 2 * PAGE as u64, &[&[1; PAGE]]).expect_err("full");
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(disk.troubles.bites.of(Cause(1)), 2);
    assert_eq!(disk.free(), 0);
    assert!(!disk.hurt, "nothing that a program may take for final");
    disk.troubles.lift(Cause(1));
    assert!(disk.free() > PAGE as u64);
    assert_eq!(disk.write(ino, 2 * PAGE as u64, &[&[1; PAGE]]).expect("room"), PAGE);
}

#[test]
fn a_file_system_that_writes_nothing_in_place_needs_room_for_every_write() {
    let (mut disk, ino) = ailing(Trouble::Crammed);
    let error = disk.write(ino, 0, &[&[1]]).expect_err("not even where something is");
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    disk.remove(Path::new("/a.index")).expect("removed");
    disk.close(ino);
    let ino = disk.open(Path::new("/b.index"), Open::Create).expect("what was removed left room");
    assert_eq!(disk.write(ino, 10, &[&[1; PAGE]]).expect("a part"), PAGE - 10);
    disk.troubles.lift(Cause(1));
    assert_eq!(disk.write(ino, 0, &[&[1; 10]]).expect("in place"), 10);
}

#[test]
fn a_lost_write_is_seen_by_nobody_until_the_disk_is_mended() {
    let (mut disk, ino) = ailing(Trouble::Phantom(1));
    assert_eq!(disk.write(ino, 100, &[&[9; 1000]]).expect("so it says"), 1000);
    assert_eq!(disk.peek(ino, 0, 8 * SECTOR), [7; 8 * SECTOR]);
    disk.write(ino, 0, &[&[5; 200]]).expect("this one is not lost");
    assert_eq!(disk.peek(ino, 0, 300), [&[5; 200][..], &[7; 100]].concat());
    disk.power_loss();
    let ino = disk.open(Path::new("/a.index"), Open::Create).expect("room");
    disk.mend();
    let bytes = disk.peek(ino, 200, 1000);
    if disk.length(ino) > 0 {
        assert_eq!(bytes, [&[9; 900][..], &[7; 100]].concat());
    }
}

#[test]
fn a_stray_write_hits_another_place() {
    let (mut disk, ino) = ailing(Trouble::Misdirected(77, 3));
    disk.write(ino, 0, &[b"abc"]).expect("so it says");
    assert_eq!(disk.peek(ino, 0, 3), [7; 3]);
    let (victim, sector, bytes) = disk.strays.pop().expect("it is on its way");
    assert_eq!((victim, sector, &bytes[..4]), (77, 3, &b"abc\0"[..]));
}

#[test]
fn a_misled_read_returns_what_lies_elsewhere_once() {
    let (mut disk, ino) = ailing(Trouble::Misread(1, BTreeMap::new()));
    disk.write(ino, 0, &[&[1; SECTOR]]).expect("written");
    let mut bytes = [0; 100];
    disk.read(ino, 0, &mut bytes).expect("so it says");
    assert_eq!(bytes, [7; 100]);
    disk.read(ino, 0, &mut bytes).expect("read");
    assert_eq!(bytes, [1; 100]);
}

#[test]
fn rot_stays_through_a_power_cut_is_overwritten_and_is_mended() {
    let (mut disk, ino) = ailing(Trouble::Slow(1));
    let sync = disk.sync_dir_begin(Path::new("/")).expect("there");
    disk.sync_dir_end(sync).expect("synced");
    disk.alter(ino, 2, &[3; SECTOR]);
    disk.alter(ino, 4, &[4; SECTOR]);
    disk.alter(ino, 6, &[5; SECTOR]);
    disk.spoil(ino, 5);
    disk.power_loss();
    let ino = disk.open(Path::new("/a.index"), Open::Write).expect("there");
    assert_eq!(disk.peek(ino, 2 * SECTOR as u64, SECTOR), [3; SECTOR]);
    assert_eq!(disk.readable(ino, 0, 8 * SECTOR as u64), 5 * SECTOR as u64);
    let mut bytes = [0; 8 * SECTOR];
    assert_eq!(disk.read(ino, 0, &mut bytes).expect("the first part"), 5 * SECTOR);
    disk.read(ino, 5 * SECTOR as u64, &mut bytes).expect_err("cannot be read");
    disk.write(ino, 2 * SECTOR as u64, &[&[8; SECTOR]]).expect("written");
    disk.write(ino, 4 * SECTOR as u64, &[&[8; 10]]).expect("written");
    disk.mend();
    assert_eq!(disk.read(ino, 0, &mut bytes).expect("read"), 8 * SECTOR);
    assert_eq!(bytes[2 * SECTOR..3 * SECTOR], [8; SECTOR]);
    assert_eq!(bytes[4 * SECTOR..4 * SECTOR + 10], [8; 10]);
    assert_eq!(bytes[4 * SECTOR + 10..], [7; 4 * SECTOR - 10]);
}

#[test]
fn another_disk_is_empty_and_works() {
    let (mut disk, ino) = ailing(Trouble::Slow(1));
    disk.close(ino);
    disk.replace();
    assert_eq!((disk.used(), disk.list(Path::new("/")).expect("a folder").len()), (0, 0));
    disk.open(Path::new("/b"), Open::CreateNew).expect("room");
}

#[test]
fn folders_are_listed_renamed_and_removed() {
    let mut disk = disk(1 << 20, 1);
    disk.make_dir(Path::new("/a")).expect("made");
    let error = disk.make_dir(Path::new("/a")).expect_err("there already");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let ino = disk.open(Path::new("/a/f"), Open::CreateNew).expect("created");
    let error = disk.remove(Path::new("/a")).expect_err("not empty");
    assert_eq!(error.kind(), ErrorKind::DirectoryNotEmpty);
    disk.rename(Path::new("/a"), Path::new("/b")).expect("renamed");
    let names = disk.list(Path::new("/b")).expect("a folder");
    assert_eq!(names, [Entry { name: "f".to_owned(), is_dir: false }]);
    disk.remove(Path::new("/b/f")).expect("removed");
    disk.remove(Path::new("/b")).expect("empty");
    assert!(disk.list(Path::new("/")).expect("the root").is_empty());
    disk.close(ino);
}

#[test]
fn a_lock_ends_with_its_process() {
    let mut disk = disk(1 << 20, 1);
    let ino = disk.open(Path::new("lock"), Open::Create).expect("created");
    disk.lock(ino).expect("free");
    assert_eq!(disk.lock(ino).expect_err("held").kind(), ErrorKind::WouldBlock);
    disk.unlock(ino);
    disk.lock(ino).expect("free");
    disk.process_death(BTreeMap::new());
    let ino = disk.open(Path::new("lock"), Open::Create).expect("there");
    disk.lock(ino).expect("free again");
}
