package kernels

import (
	"fmt"
	"strings"
	"testing"
)

// What a machine writes is taken apart into commands and tests, also where the kernel's words
// stand between, and where the machine ended too early.
func TestParse(t *testing.T) {
	console := "SeaBIOS\n" +
		begins + "00\n\x16=== RUN   TestA\n\x16=== ATTR  TestA taken {\"took\":\"fork\"}\n\x16=== ATTR  TestA taken {\"took\":\"stop\"}\n" +
		"[    1.0] a word of the kernel\n\x16--- FAIL: TestA (0.10s)\n\x16=== NAME  \nFAIL\r\n\n" + ends + "00 1\n" +
		begins + "01\nplain words\n\n" + ends + "01 0\n" +
		begins + "02\n\x16=== RUN   TestB\n"
	var got string
	for _, s := range parse(t, []byte(console), []string{"a.test", "echo", "b.test"}) {
		got += fmt.Sprintf("%s %q:", s.command, s.status)
		for _, o := range s.tests {
			got += fmt.Sprintf(" %s %q %v", o.name, o.action, o.attrs)
		}
		got += "\n"
	}
	want := `a.test "1": TestA "fail" [{taken {"took":"fork"}} {taken {"took":"stop"}}]` + "\n" +
		`echo "0":` + "\n" + `b.test "": TestB "" []` + "\n"
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// The row of a method tells which other it has come to, and quotes the program.
func TestRow(t *testing.T) {
	s := step{status: "0", tests: []*outcome{
		{name: "TestMethods/fork", action: "pass", attrs: []attr{{"taken", `{"took":"","why":"process 12: not | done"}`}}},
		{name: "TestMethods/auto", action: "pass", attrs: []attr{{"taken", `{"took":"stop","why":""}`}}},
		{name: "TestMethods/stop", action: "fail", attrs: []attr{{"taken", `{"took":"stop","why":""}`}}},
		{name: "TestWitness/auto", action: "fail"},
	}}
	r := &ran{machine: machine{arch: "arm64"}, release: "6.12", page: "16384", steps: []step{s}}
	var got strings.Builder
	r.methods(&got)
	want := "| 6.12 | arm64 | 16 KiB | fork | refused | - | \"not \\| done\" |\n" +
		"| 6.12 | arm64 | 16 KiB | auto | takes stop | **fails** |  |\n" +
		"| 6.12 | arm64 | 16 KiB | stop | **fails** | - |  |\n"
	if got.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", got.String(), want)
	}
}
