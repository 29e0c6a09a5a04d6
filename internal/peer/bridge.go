package peer

import (
	"context"
	"log/slog"
	"strings"
)

// bridge turns the lines of memberlist, which have their level in front as text, into log lines of this program. It is a
// handler because that is what slog makes a *log.Logger from.
//
// What a stranger or a broken network can cause any number of times is limited. Refusals of gossip, which memberlist tells
// nobody but its log, are recognized and given to refused; a test fails when an update of memberlist changes their words.
type bridge struct {
	log     *slog.Logger
	limit   *limiter
	refused func(why reason, from string)
}

var _ slog.Handler = bridge{}

// Enabled says yes, because the level of a line is known only when it has been read.
func (b bridge) Enabled(context.Context, slog.Level) bool { return true }

// WithAttrs is never called by a *log.Logger.
func (b bridge) WithAttrs([]slog.Attr) slog.Handler { return b }

// WithGroup is never called by a *log.Logger.
func (b bridge) WithGroup(string) slog.Handler { return b }

// Handle takes one line.
func (b bridge) Handle(ctx context.Context, record slog.Record) error {
	line := parseGossipLine(record.Message)
	switch {
	case line.level == slog.LevelDebug:
		b.log.DebugContext(ctx, "gossip: "+line.text)
	case line.refused != "":
		b.refused(line.refused, line.from)
	default:
		if dropped, ok := b.limit.allow(line.level.String()); ok {
			b.log.Log(ctx, line.level, "gossip: "+line.text, dropLines(dropped)...)
		}
	}
	return nil
}

// dropLines tells how many lines were left out, when there were any.
func dropLines(n int) []any {
	if n == 0 {
		return nil
	}
	return []any{"dropped", n}
}

// gossipLine is a line of memberlist, taken apart.
type gossipLine struct {
	level   slog.Level
	text    string
	from    string // the address that it is about, when it names one
	refused reason // why gossip was refused, when it was
}

// gossipLevels are the marks at the beginning of a line. What memberlist calls an error is mostly the network's.
var gossipLevels = map[string]slog.Level{
	"[DEBUG] ": slog.LevelDebug, "[INFO] ": slog.LevelInfo, "[WARN] ": slog.LevelWarn, "[ERR] ": slog.LevelWarn, "[ERROR] ": slog.LevelWarn,
}

// gossipRefusals are the words in which memberlist says that it has refused a message.
var gossipRefusals = map[string]reason{
	"no installed keys could decrypt":                            reasonSecret,
	"encryption is configured but remote state is not encrypted": reasonSecret,
	"remote state is encrypted and encryption is not configured": reasonSecret,
	"cannot decrypt empty payload":                               reasonSecret,
	"payload is too small to decrypt":                            reasonSecret,
	"unsupported encryption version":                             reasonSecret,
	"with unacceptable label":                                    reasonCluster,
}

// gossipReported begin lines about what the delegate has refused and told about already.
var gossipReported = []string{"ignoring alive message", "Conflicting address"}

func parseGossipLine(text string) gossipLine {
	line := gossipLine{level: slog.LevelWarn, text: text}
	for mark, level := range gossipLevels {
		if rest, ok := strings.CutPrefix(text, mark); ok {
			line.level, line.text = level, rest
		}
	}
	line.text = strings.TrimPrefix(line.text, "memberlist: ")
	for _, start := range gossipReported {
		if strings.HasPrefix(line.text, start) {
			line.level = slog.LevelDebug
		}
	}
	if _, from, ok := strings.Cut(line.text, "from="); ok {
		line.from, _, _ = strings.Cut(from, " ")
	}
	line.refused = gossipRefusal(line.text)
	return line
}

// gossipRefusal returns the reason why a message was refused, empty when the text is about something else.
func gossipRefusal(text string) reason {
	for words, why := range gossipRefusals {
		if strings.Contains(text, words) {
			return why
		}
	}
	return ""
}
