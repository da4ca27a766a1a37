// The sarama client. Usage: BOOTSTRAP JOB TOPIC [key=value]...
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

	"github.com/IBM/sarama"
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
	jobs := map[string]func() (answer, error){
		"write": write, "read": read, "ends": ends, "times": times,
		"topics": topics, "create": create, "delete": remove, "member": member,
	}
	result, err := jobs[os.Args[2]]()
	if err != nil {
		result = answer{"ok": false, "why": name(err)}
	}
	line, _ := json.Marshal(result)
	fmt.Println(string(line))
}

func name(err error) string {
	var topicError *sarama.TopicError
	if errors.As(err, &topicError) {
		return fmt.Sprintf("%d %v", topicError.Err, err)
	}
	return err.Error()
}

func option(name, otherwise string) string {
	if value, found := options[name]; found {
		return value
	}
	return otherwise
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

// Null bytes are a missing encoder; an empty one would be sent as an empty string.
func encoder(field string) sarama.Encoder {
	if field == "-" {
		return nil
	}
	return sarama.ByteEncoder(unhex(field))
}

func config() *sarama.Config {
	config := sarama.NewConfig()
	if option("protocol", "default") == "newest" {
		config.Version = sarama.MaxVersion
	}
	config.Admin.Timeout = 15 * time.Second
	return config
}

func write() (answer, error) {
	raw, err := os.ReadFile(options["in"])
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")
	settings := config()
	settings.Producer.Compression.UnmarshalText([]byte(option("codec", "none")))
	acks := map[string]sarama.RequiredAcks{
		"all": sarama.WaitForAll, "1": sarama.WaitForLocal, "0": sarama.NoResponse,
	}
	settings.Producer.RequiredAcks = acks[option("acks", "all")]
	settings.Producer.Idempotent = option("idempotent", "true") == "true"
	if settings.Producer.Idempotent {
		settings.Net.MaxOpenRequests = 1
	}
	if most, err := strconv.Atoi(options["max"]); err == nil {
		settings.Producer.MaxMessageBytes = most
	}
	settings.Producer.Return.Successes = true
	settings.Producer.Return.Errors = true
	if !strings.HasPrefix(lines[0], "-") {
		settings.Producer.Partitioner = sarama.NewManualPartitioner
	}
	producer, err := sarama.NewSyncProducer([]string{bootstrap}, settings)
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	messages := make([]*sarama.ProducerMessage, len(lines))
	for index, line := range lines {
		fields := strings.Split(line, "\t")
		partition, _ := strconv.Atoi(fields[0])
		moment, _ := strconv.ParseInt(fields[1], 10, 64)
		message := &sarama.ProducerMessage{
			Topic: topic, Partition: int32(partition), Timestamp: time.UnixMilli(moment),
			Key: encoder(fields[2]), Value: encoder(fields[3]),
		}
		for _, pair := range strings.FieldsFunc(fields[4], func(r rune) bool { return r == ',' }) {
			name, value, _ := strings.Cut(pair, ":")
			header := sarama.RecordHeader{Key: unhex(name), Value: unhex(value)}
			message.Headers = append(message.Headers, header)
		}
		messages[index] = message
	}
	failed := map[*sarama.ProducerMessage]error{}
	var refused sarama.ProducerErrors
	if err := producer.SendMessages(messages); errors.As(err, &refused) {
		for _, one := range refused {
			failed[one.Msg] = one.Err
		}
	} else if err != nil {
		return nil, err
	}
	var reports strings.Builder
	for _, message := range messages {
		switch err := failed[message]; {
		case err != nil:
			fmt.Fprintf(&reports, "!\t%v\n", err)
		case option("acks", "all") == "0":
			reports.WriteString("?\t?\n")
		default:
			fmt.Fprintf(&reports, "%d\t%d\n", message.Partition, message.Offset)
		}
	}
	err = os.WriteFile(options["out"], []byte(reports.String()), 0o644)
	return answer{"ok": true, "count": len(lines)}, err
}

func bounds(client sarama.Client) (low, high map[int32]int64, err error) {
	low, err = offsets(client, sarama.OffsetOldest)
	if err != nil {
		return nil, nil, err
	}
	high, err = offsets(client, sarama.OffsetNewest)
	return low, high, err
}

func offsets(client sarama.Client, moment int64) (map[int32]int64, error) {
	partitions, err := client.Partitions(topic)
	found := map[int32]int64{}
	for _, partition := range partitions {
		if found[partition], err = client.GetOffset(topic, partition, moment); err != nil {
			return nil, err
		}
	}
	return found, err
}

func read() (answer, error) {
	client, err := sarama.NewClient([]string{bootstrap}, config())
	if err != nil {
		return nil, err
	}
	defer client.Close()
	starts, stops, err := bounds(client)
	if err != nil {
		return nil, err
	}
	for _, pair := range strings.FieldsFunc(options["start"], func(r rune) bool { return r == ',' }) {
		partition, offset, _ := strings.Cut(pair, ":")
		at, _ := strconv.Atoi(partition)
		starts[int32(at)], _ = strconv.ParseInt(offset, 10, 64)
	}
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		return nil, err
	}
	var wanted, count int64
	all := make(chan *sarama.ConsumerMessage)
	var readers []sarama.PartitionConsumer
	for partition, start := range starts {
		wanted += stops[partition] - start
		reader, err := consumer.ConsumePartition(topic, partition, start)
		if err != nil {
			return nil, err
		}
		readers = append(readers, reader)
		go func() {
			for message := range reader.Messages() {
				all <- message
			}
		}()
	}
	if text, found := options["count"]; found {
		wanted, _ = strconv.ParseInt(text, 10, 64)
	}
	file, err := os.Create(options["out"])
	if err != nil {
		return nil, err
	}
	out := bufio.NewWriter(file)
	for deadline := time.After(timeout); count < wanted; {
		select {
		case m := <-all:
			fmt.Fprint(out, line(m))
			count++
			continue
		case <-deadline:
		}
		break
	}
	began := time.Now()
	for _, reader := range readers {
		if err := reader.Close(); err != nil {
			return nil, err
		}
	}
	closed := time.Since(began).Milliseconds()
	why := fmt.Sprintf("%d of %d records", count, wanted)
	return answer{"ok": count == wanted, "count": count, "close_ms": closed, "why": why}, out.Flush()
}

func line(m *sarama.ConsumerMessage) string {
	var headers []string
	for _, h := range m.Headers {
		headers = append(headers, tohex(h.Key)+":"+tohex(h.Value))
	}
	return fmt.Sprintf("%d\t%d\t%d\t%s\t%s\t%s\n", m.Partition, m.Offset,
		m.Timestamp.UnixMilli(), tohex(m.Key), tohex(m.Value), strings.Join(headers, ","))
}

// Notes what a member owns and reads.
type notes struct{ lock sync.Mutex }

func (n *notes) Setup(session sarama.ConsumerGroupSession) error {
	var parts []string
	for _, partition := range session.Claims()[topic] {
		parts = append(parts, strconv.Itoa(int(partition)))
	}
	return n.add(options["owned"], strings.Join(parts, ",")+"\n")
}

func (n *notes) Cleanup(sarama.ConsumerGroupSession) error {
	return n.add(options["owned"], "\n")
}

func (n *notes) ConsumeClaim(
	session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim,
) error {
	// What was read is committed before the partition is given up.
	defer session.Commit()
	for {
		select {
		case m, more := <-claim.Messages():
			if !more {
				return nil
			}
			if err := n.add(options["out"], line(m)); err != nil {
				return err
			}
			session.MarkMessage(m, "")
		case <-time.After(100 * time.Millisecond):
			session.Commit()
		case <-session.Context().Done():
			return nil
		}
	}
}

func (n *notes) add(path, text string) error {
	n.lock.Lock()
	defer n.lock.Unlock()
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = file.WriteString(text)
	return err
}

// One member of a group until the stop file appears.
func member() (answer, error) {
	settings := config()
	settings.Consumer.Offsets.Initial = sarama.OffsetOldest
	settings.Consumer.Offsets.AutoCommit.Enable = false
	session, _ := strconv.Atoi(options["session"])
	settings.Consumer.Group.Session.Timeout = time.Duration(session) * time.Millisecond
	settings.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	settings.Consumer.Group.InstanceId = options["instance"]
	group, err := sarama.NewConsumerGroup([]string{bootstrap}, options["group"], settings)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		for {
			if _, err := os.Stat(options["stop"]); err == nil {
				cancel()
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	handler := &notes{}
	for ctx.Err() == nil {
		if err := group.Consume(ctx, []string{topic}, handler); err != nil && ctx.Err() == nil {
			return nil, err
		}
	}
	return answer{"ok": true}, group.Close()
}

func ends() (answer, error) {
	client, err := sarama.NewClient([]string{bootstrap}, config())
	if err != nil {
		return nil, err
	}
	defer client.Close()
	low, high, err := bounds(client)
	marks := map[int32][2]int64{}
	for partition := range low {
		marks[partition] = [2]int64{low[partition], high[partition]}
	}
	return answer{"ok": true, "ends": marks}, err
}

func times() (answer, error) {
	client, err := sarama.NewClient([]string{bootstrap}, config())
	if err != nil {
		return nil, err
	}
	defer client.Close()
	found := map[string]map[int32]int64{}
	for _, text := range strings.Split(options["times"], ",") {
		moment, _ := strconv.ParseInt(text, 10, 64)
		if found[text], err = offsets(client, moment); err != nil {
			return nil, err
		}
	}
	return answer{"ok": true, "times": found}, nil
}

func admin(work func(sarama.ClusterAdmin) (answer, error)) (answer, error) {
	admin, err := sarama.NewClusterAdmin([]string{bootstrap}, config())
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	return work(admin)
}

func topics() (answer, error) {
	return admin(func(a sarama.ClusterAdmin) (answer, error) {
		// ListTopics also asks for every topic's configuration, which is another job's business.
		described, err := a.DescribeTopics([]string{topic})
		found := map[string]int{}
		for _, one := range described {
			if one.Err == sarama.ErrNoError {
				found[one.Name] = len(one.Partitions)
			}
		}
		return answer{"ok": true, "topics": found}, err
	})
}

func create() (answer, error) {
	count, _ := strconv.Atoi(options["partitions"])
	return admin(func(a sarama.ClusterAdmin) (answer, error) {
		detail := &sarama.TopicDetail{NumPartitions: int32(count), ReplicationFactor: 1}
		return answer{"ok": true}, a.CreateTopic(topic, detail, false)
	})
}

func remove() (answer, error) {
	return admin(func(a sarama.ClusterAdmin) (answer, error) {
		return answer{"ok": true}, a.DeleteTopic(topic)
	})
}
