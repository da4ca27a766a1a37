// The franz-go client. Usage: BOOTSTRAP JOB TOPIC [key=value]...
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const timeout = 30 * time.Second

type answer = map[string]any

var (
	bootstrap, topic string
	options          = map[string]string{}
)

func main() {
	bootstrap, topic = os.Args[1], os.Args[3]
	for _, pair := range os.Args[4:] {
		name, value, _ := strings.Cut(pair, "=")
		options[name] = value
	}
	jobs := map[string]func(context.Context) (answer, error){
		"write": write, "read": read, "ends": ends, "times": times, "newest": newest,
		"topics": topics, "create": create, "delete": remove, "member": member,
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	result, err := jobs[os.Args[2]](ctx)
	if err != nil {
		result = answer{"ok": false, "why": name(err)}
	}
	line, _ := json.Marshal(result)
	fmt.Println(string(line))
}

func name(err error) string {
	var kafka *kerr.Error
	if errors.As(err, &kafka) {
		return kafka.Message + ": " + err.Error()
	}
	return err.Error()
}

func option(name, otherwise string) string {
	if value, found := options[name]; found {
		return value
	}
	return otherwise
}

func number(name string, otherwise int) int {
	value, err := strconv.Atoi(option(name, strconv.Itoa(otherwise)))
	if err != nil {
		panic(err)
	}
	return value
}

func unhex(field string) []byte {
	if field == "-" {
		return nil
	}
	raw, err := hex.DecodeString(field)
	if err != nil {
		panic(err)
	}
	return raw
}

func tohex(value []byte) string {
	if value == nil {
		return "-"
	}
	return hex.EncodeToString(value)
}

func client(more ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(bootstrap)}, more...)...)
}

func write(ctx context.Context) (answer, error) {
	raw, err := os.ReadFile(options["in"])
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	acks := map[string]kgo.Acks{"all": kgo.AllISRAcks(), "1": kgo.LeaderAck(), "0": kgo.NoAck()}
	more := []kgo.Opt{
		kgo.ProducerBatchCompression(codecs[option("codec", "none")]),
		kgo.RequiredAcks(acks[option("acks", "all")]),
		kgo.ProducerBatchMaxBytes(int32(number("max", 1000012))),
		kgo.AllowAutoTopicCreation(),
	}
	if option("idempotent", "true") != "true" {
		more = append(more, kgo.DisableIdempotentWrite())
	}
	if !strings.HasPrefix(lines[0], "-") {
		more = append(more, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	producer, err := client(more...)
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	reports := make([]string, len(lines))
	for index, line := range lines {
		fields := strings.Split(line, "\t")
		partition, _ := strconv.Atoi(fields[0])
		moment, _ := strconv.ParseInt(fields[1], 10, 64)
		record := &kgo.Record{
			Topic: topic, Partition: int32(partition), Timestamp: time.UnixMilli(moment),
			Key: unhex(fields[2]), Value: unhex(fields[3]),
		}
		for _, pair := range strings.FieldsFunc(fields[4], func(r rune) bool { return r == ',' }) {
			name, value, _ := strings.Cut(pair, ":")
			header := kgo.RecordHeader{Key: string(unhex(name)), Value: unhex(value)}
			record.Headers = append(record.Headers, header)
		}
		producer.Produce(ctx, record, func(done *kgo.Record, err error) {
			switch {
			case err != nil:
				reports[index] = "!\t" + name(err)
			case option("acks", "all") == "0":
				reports[index] = "?\t?"
			default:
				reports[index] = fmt.Sprintf("%d\t%d", done.Partition, done.Offset)
			}
		})
	}
	if err := producer.Flush(ctx); err != nil {
		return nil, err
	}
	text := strings.Join(reports, "\n") + "\n"
	return answer{"ok": true, "count": len(lines)}, os.WriteFile(options["out"], []byte(text), 0o644)
}

func bounds(ctx context.Context) (low, high map[int32]int64, err error) {
	base, err := client()
	if err != nil {
		return nil, nil, err
	}
	admin := kadm.NewClient(base)
	defer admin.Close()
	starts, err := admin.ListStartOffsets(ctx, topic)
	if err != nil {
		return nil, nil, err
	}
	stops, err := admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, nil, err
	}
	if err := errors.Join(starts.Error(), stops.Error()); err != nil {
		return nil, nil, err
	}
	return offsets(starts), offsets(stops), nil
}

func offsets(listed kadm.ListedOffsets) map[int32]int64 {
	found := map[int32]int64{}
	listed.Each(func(at kadm.ListedOffset) { found[at.Partition] = at.Offset })
	return found
}

func read(ctx context.Context) (answer, error) {
	starts, stops, err := bounds(ctx)
	if err != nil {
		return nil, err
	}
	for _, pair := range strings.FieldsFunc(options["start"], func(r rune) bool { return r == ',' }) {
		partition, offset, _ := strings.Cut(pair, ":")
		at, _ := strconv.Atoi(partition)
		starts[int32(at)], _ = strconv.ParseInt(offset, 10, 64)
	}
	var wanted int64
	from := map[int32]kgo.Offset{}
	for partition, start := range starts {
		from[partition] = kgo.NewOffset().At(start)
		wanted += stops[partition] - start
	}
	if count, found := options["count"]; found {
		wanted, _ = strconv.ParseInt(count, 10, 64)
	}
	consumer, err := client(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
	)
	if err != nil {
		return nil, err
	}
	file, err := os.Create(options["out"])
	if err != nil {
		return nil, err
	}
	out := bufio.NewWriter(file)
	var count int64
	for count < wanted && ctx.Err() == nil {
		fetches := consumer.PollFetches(ctx)
		for _, failed := range fetches.Errors() {
			return nil, failed.Err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			fmt.Fprint(out, line(r))
			count++
		})
	}
	began := time.Now()
	consumer.Close()
	closed := time.Since(began).Milliseconds()
	why := fmt.Sprintf("%d of %d records", count, wanted)
	return answer{"ok": count == wanted, "count": count, "close_ms": closed, "why": why}, out.Flush()
}

func line(r *kgo.Record) string {
	var headers []string
	for _, h := range r.Headers {
		headers = append(headers, tohex([]byte(h.Key))+":"+tohex(h.Value))
	}
	return fmt.Sprintf("%d\t%d\t%d\t%s\t%s\t%s\n", r.Partition, r.Offset,
		r.Timestamp.UnixMilli(), tohex(r.Key), tohex(r.Value), strings.Join(headers, ","))
}

// One member of a group until the stop file appears.
func member(context.Context) (answer, error) {
	ctx := context.Background()
	owned := map[int32]bool{}
	var lock sync.Mutex
	note := func(change map[string][]int32, gained bool) {
		lock.Lock()
		defer lock.Unlock()
		for _, partition := range change[topic] {
			if gained {
				owned[partition] = true
			} else {
				delete(owned, partition)
			}
		}
		var parts []string
		for partition := range owned {
			parts = append(parts, strconv.Itoa(int(partition)))
		}
		add(options["owned"], strings.Join(parts, ",")+"\n")
	}
	lost := func(_ context.Context, _ *kgo.Client, p map[string][]int32) { note(p, false) }
	balancer := kgo.RangeBalancer()
	if options["strategy"] == "cooperative" {
		balancer = kgo.CooperativeStickyBalancer()
	}
	named := []kgo.Opt{}
	if options["instance"] != "" {
		named = append(named, kgo.InstanceID(options["instance"]))
	}
	consumer, err := client(append(named,
		kgo.ConsumerGroup(options["group"]), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(),
		kgo.SessionTimeout(time.Duration(number("session", 6000))*time.Millisecond),
		kgo.HeartbeatInterval(500*time.Millisecond), kgo.Balancers(balancer),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, p map[string][]int32) {
			note(p, true)
		}),
		kgo.OnPartitionsRevoked(lost), kgo.OnPartitionsLost(lost),
	)...)
	if err != nil {
		return nil, err
	}
	for {
		if _, err := os.Stat(options["stop"]); err == nil {
			break
		}
		short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		fetches := consumer.PollFetches(short)
		cancel()
		fetches.EachRecord(func(r *kgo.Record) { add(options["out"], line(r)) })
		if err := consumer.CommitUncommittedOffsets(ctx); err != nil {
			var kafka *kerr.Error
			// A rebalance may overtake a commit; whoever has the partition next reads again.
			if !errors.As(err, &kafka) {
				return nil, err
			}
		}
		consumer.AllowRebalance()
	}
	consumer.Close()
	return answer{"ok": true}, nil
}

func add(path, text string) {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		panic(err)
	}
	defer file.Close()
	if _, err := file.WriteString(text); err != nil {
		panic(err)
	}
}

func ends(ctx context.Context) (answer, error) {
	low, high, err := bounds(ctx)
	marks := map[int32][2]int64{}
	for partition := range low {
		marks[partition] = [2]int64{low[partition], high[partition]}
	}
	return answer{"ok": true, "ends": marks}, err
}

func times(ctx context.Context) (answer, error) {
	base, err := client()
	if err != nil {
		return nil, err
	}
	defer base.Close()
	found := map[string]map[int32]int64{}
	for _, text := range strings.Split(options["times"], ",") {
		moment, _ := strconv.ParseInt(text, 10, 64)
		listed, err := kadm.NewClient(base).ListOffsetsAfterMilli(ctx, moment, topic)
		if err := errors.Join(err, listed.Error()); err != nil {
			return nil, err
		}
		found[text] = offsets(listed)
	}
	// Where nothing is that late, kadm itself replaces -1 with the end of the partition.
	return answer{"ok": true, "times": found}, nil
}

func newest(ctx context.Context) (answer, error) {
	base, err := client()
	if err != nil {
		return nil, err
	}
	defer base.Close()
	listed, err := kadm.NewClient(base).ListMaxTimestampOffsets(ctx, topic)
	if err := errors.Join(err, listed.Error()); err != nil {
		return nil, err
	}
	return answer{"ok": true, "newest": offsets(listed)}, nil
}

func admin(work func(*kadm.Client) (answer, error)) (answer, error) {
	base, err := client()
	if err != nil {
		return nil, err
	}
	defer base.Close()
	return work(kadm.NewClient(base))
}

func topics(ctx context.Context) (answer, error) {
	return admin(func(a *kadm.Client) (answer, error) {
		details, err := a.ListTopics(ctx)
		found := map[string]int{}
		for name, detail := range details {
			found[name] = len(detail.Partitions)
		}
		return answer{"ok": true, "topics": found}, err
	})
}

func create(ctx context.Context) (answer, error) {
	count, _ := strconv.Atoi(options["partitions"])
	return admin(func(a *kadm.Client) (answer, error) {
		created, err := a.CreateTopic(ctx, int32(count), 1, nil, topic)
		return answer{"ok": true, "partitions": created.NumPartitions}, err
	})
}

func remove(ctx context.Context) (answer, error) {
	return admin(func(a *kadm.Client) (answer, error) {
		_, err := a.DeleteTopic(ctx, topic)
		return answer{"ok": true}, err
	})
}
