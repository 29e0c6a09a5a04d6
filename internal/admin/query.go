package admin

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// maxPage is the most entries that one page of a list can have. Without pages there is no bound.
const maxPage = 10_000

// badRequest is an error about what was sent; its text says what would be right.
type badRequest string

func (e badRequest) Error() string { return string(e) }

// readQuery reads a query strictly: a parameter that is not known, given twice or malformed is an error, because one that
// is ignored would list or change more than was meant.
func readQuery(raw string, known ...string) (map[string]string, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, badRequest("query is malformed: " + err.Error())
	}
	read := make(map[string]string, len(values))
	for key, all := range values {
		if !slices.Contains(known, key) {
			return nil, badRequest(fmt.Sprintf("parameter %.64q is not known here: %s", key, wanted(known)))
		}
		if len(all) > 1 {
			return nil, badRequest(fmt.Sprintf("parameter %s is there %d times: give it once", key, len(all)))
		}
		read[key] = all[0]
	}
	return read, nil
}

func wanted(known []string) string {
	if len(known) == 0 {
		return "there are none"
	}
	return "there are " + strings.Join(known, ", ")
}

// readLimit reads the parameter n, the entries of a page; empty means no pages.
func readLimit(text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || n == 0 || n > maxPage {
		return 0, badRequest(fmt.Sprintf("n is %.64q: want a number from 1 to %d, or leave it out for everything at once", text, maxPage))
	}
	return int(n), nil
}

// readFlag reads a parameter that is true or false; empty is false.
func readFlag(name, text string) (bool, error) {
	switch text {
	case "true":
		return true, nil
	case "false", "":
		return false, nil
	}
	return false, badRequest(fmt.Sprintf("%s is %.64q: want true or false", name, text))
}
