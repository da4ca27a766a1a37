"""The judge on trial: every kind of damage to what was read has to be noticed.

Run with `python3 -m unittest` in this folder.
"""

import dataclasses
import unittest

import records
from records import Seen


def perfect(written):
    """What an honest broker would return, and the acknowledgements that belong to it."""
    ends, seen, acks = {}, [], []
    for index, record in enumerate(written):
        partition = index // 7 % 3 if record.partition is None else record.partition
        if record.key is not None and record.partition is None:
            partition = sum(record.key) % 3
        offset = ends.get(partition, 0)
        ends[partition] = offset + 1
        placed = dataclasses.replace(record, partition=partition)
        seen.append(Seen(partition, offset, placed))
        acks.append((str(partition), str(offset)))
    return seen, acks


def renumbered(seen):
    """Dense offsets again, so that only the content betrays the damage."""
    ends, out = {}, []
    for one in seen:
        offset = ends.get(one.partition, 0)
        ends[one.partition] = offset + 1
        out.append(Seen(one.partition, offset, one.record))
    return out


def changed(one, **fields):
    return Seen(one.partition, one.offset, dataclasses.replace(one.record, **fields))


class Judge(unittest.TestCase):
    def cases(self):
        for kind in ("rich", "plain", "text", "keyed", "unkeyed"):
            written = records.generate(kind, 3, 200)
            yield written, *perfect(written)

    def refused(self, written, seen, acks=None):
        self.assertIsNotNone(records.compare(written, seen, acks))

    def test_the_truth_passes(self):
        for written, seen, acks in self.cases():
            self.assertIsNone(records.compare(written, seen, acks))

    def test_a_lost_record(self):
        for written, seen, acks in self.cases():
            self.refused(written, seen[:-1])
            self.refused(written, renumbered(seen[:50] + seen[51:]))

    def test_a_doubled_record(self):
        for written, seen, acks in self.cases():
            self.refused(written, renumbered(seen + seen[-1:]))
            self.refused(written, renumbered(seen[1:2] + seen[1:]))

    def test_two_records_in_the_wrong_order(self):
        for written, seen, acks in self.cases():
            first = next(s for s in seen if s.record.value and s.record.value[:1].isdigit())
            later = [s for s in seen if s.partition == first.partition and s.offset > first.offset]
            second = next(s for s in later if s.record.value != first.record.value)
            swapped = dict.fromkeys(seen)
            swapped |= {first: changed(second), second: changed(first)}
            damaged = [
                Seen(s.partition, s.offset, new.record) if (new := swapped[s]) else s for s in seen
            ]
            self.refused(written, damaged)

    def test_a_gap_in_the_offsets(self):
        for written, seen, acks in self.cases():
            last = seen[-1]
            self.refused(written, seen[:-1] + [Seen(last.partition, last.offset + 1, last.record)])

    def test_one_changed_field(self):
        for written, seen, acks in self.cases():
            for index, one in enumerate(seen[:40]):
                flipped = (one.record.value or b"") + b"!"
                nulled = None if one.record.key == b"" else b""
                for damage in (
                    {"value": flipped},
                    {"key": nulled if one.record.key != nulled else b"?"},
                    {"timestamp": one.record.timestamp + 1},
                    {"headers": one.record.headers + ((b"x", None),)},
                ):
                    damaged = seen[:index] + [changed(one, **damage)] + seen[index + 1 :]
                    self.refused(written, damaged)

    def test_an_acknowledgement_that_lies(self):
        for written, seen, acks in self.cases():
            self.refused(written, seen, [("0", "999")] + acks[1:])
            self.refused(written, seen, [("!", "NOT_LEADER")] + acks[1:])
            self.refused(written, seen, [("?", "?")] + acks[1:])
            self.refused(written, seen, acks[:-1])
            moved = next(i for i, r in enumerate(written) if differs(r, written[0]))
            self.refused(written, seen, [acks[moved]] + acks[1:])

    def test_a_key_in_two_partitions(self):
        written = records.generate("keyed", 3, 200)
        seen, _ = perfect(written)
        for one in seen:
            if sum(s.record.key == one.record.key for s in seen) > 1:
                elsewhere = (one.partition + 1) % 3
                moved = [Seen(elsewhere, 0, s.record) if s == one else s for s in seen]
                moved.sort(key=lambda s: (s.partition, s.record.value))
                self.refused(written, renumbered(moved))
                return
        self.fail("no key is used twice")

    def test_the_first_offset_at_or_after_a_time(self):
        written = records.generate("rich", 3, 200)
        seen, _ = perfect(written)
        for moment in (0, written[99].timestamp, written[-1].timestamp + 1):
            for partition, found in records.first_at_or_after(seen, moment).items():
                own = [s for s in seen if s.partition == partition]
                before = own if found < 0 else own[:found]
                self.assertTrue(all(s.record.timestamp < moment for s in before))
                self.assertTrue(found < 0 or own[found].record.timestamp >= moment)

    def test_lines_survive_the_way_through_a_file(self):
        record = records.generate("rich", 3, 200)[7]
        headers = ((b"a", None), (b"a", b""), ("größe".encode(), b"\0\t,:\n"))
        odd = dataclasses.replace(record, key=b"", value=None, headers=headers)
        fields = odd.line().split("\t")
        self.assertEqual(len(fields), 5)
        self.assertEqual(fields[2:], ["", "-", "61:-,61:,6772c3b6c39f65:00092c3a0a"])


def differs(one, other):
    return one.content() != other.content()


if __name__ == "__main__":
    unittest.main()
