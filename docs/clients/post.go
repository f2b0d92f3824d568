// go run post.go URL KEY BODY: post one callback, and repeat it under the same key until the answer is final.
package main

import (
	"fmt"
	"io"
	"math"
	"math/rand"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// The relay is on this host: no proxy.
var client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}

// Seeded: before Go 1.20 every process draws the same numbers otherwise.
var random = rand.New(rand.NewSource(time.Now().UnixNano()))

// once returns status, answer and Retry-After in seconds. An error: there was no answer.
func once(url, key, body string) (int, string, float64, error) {
	request, err := http.NewRequest("POST", url, strings.NewReader(body))
	if err != nil {
		return 0, "", 0, err
	}
	request.Header.Set("Idempotency-Key", key)
	request.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(request)
	if err != nil {
		return 0, "", 0, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	after, _ := strconv.ParseFloat(answer.Header.Get("Retry-After"), 64)
	return answer.StatusCode, string(text), after, err
}

// post returns the relay's 202 answer. An error: refused for good, or no answer in so many tries.
func post(url, key, body string, tries int) (string, error) {
	wait, last := 0.0, ""
	for n := 0; n < tries; n++ {
		time.Sleep(time.Duration(wait * float64(time.Second)))
		wait = math.Min(30, 0.5*math.Pow(2, float64(n))) * (0.5 + random.Float64()/2)
		status, text, after, err := once(url, key, body)
		if err != nil {
			last = "no answer: " + err.Error()
			continue
		}
		if status == 202 {
			return text, nil
		}
		last = fmt.Sprint(status, " ", text)
		if status < 500 {
			return "", fmt.Errorf("refused for good: %s", last)
		}
		wait = math.Max(wait, after)
	}
	return "", fmt.Errorf("%s, %d times; keep it, and post it later under the same key", last, tries)
}

func main() {
	answer, err := post(os.Args[1], os.Args[2], os.Args[3], 8)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(answer)
}
