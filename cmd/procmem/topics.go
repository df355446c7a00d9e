package main

import (
	"embed"
	"strings"

	"github.com/procmem/procmem/docs"
)

// topic is something that procmem help tells beside the commands.
type topic struct{ name, short, text string }

//go:embed topics
var topicFiles embed.FS

// topics are in the order in which they are listed. The files of folder topics hold one each, the
// line that lists it first.
var topics = []topic{
	topicOf("exit-status"),
	{"json", "What each field of --json means", plain(docs.JSON)},
	topicOf("range"),
	topicOf("target"),
}

func topicOf(name string) topic {
	b, err := topicFiles.ReadFile("topics/" + name + ".txt")
	if err != nil {
		panic(err) // it was there when the program was built
	}
	short, text, _ := strings.Cut(string(b), "\n\n")
	return topic{name, short, text}
}

func findTopic(name string) (topic, bool) {
	for _, t := range topics {
		if t.name == name {
			return t, true
		}
	}
	return topic{}, false
}
