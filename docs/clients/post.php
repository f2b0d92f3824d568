<?php
// php post.php URL KEY BODY: post one callback, and repeat it under the same key until the answer is final. PHP 7 or newer.

/** Returns the relay's 202 answer. RuntimeException: refused for good, or no answer in so many tries. */
function post(string $url, string $key, string $body, int $tries = 8): string
{
    $http = stream_context_create(['http' => [
        'method' => 'POST', 'content' => $body, 'timeout' => 10, 'ignore_errors' => true, 'follow_location' => 0,
        'header' => ["Idempotency-Key: $key", 'Content-Type: application/json', 'Connection: close'],
    ]]);
    $wait = 0;
    for ($n = 0; $n < $tries; $n++) {
        usleep((int) ($wait * 1000000));
        $wait = min(30, 0.5 * 2 ** $n) * random_int(50, 100) / 100;
        $answer = @fopen($url, 'r', false, $http);
        if ($answer === false) {
            $last = 'no answer';
            continue;
        }
        $head = implode("\n", stream_get_meta_data($answer)['wrapper_data']);
        $text = stream_get_contents($answer);
        $status = (int) substr($head, strlen('HTTP/1.1 '), 3);
        if ($status === 202 && json_decode($text) !== null) { // cut off in the middle is no answer
            return $text;
        }
        $last = "$status $text";
        if ($status !== 202 && $status < 500) {
            throw new RuntimeException("refused for good: $last");
        }
        if (preg_match('/^Retry-After: *(\d+)/mi', $head, $found)) {
            $wait = max($wait, (int) $found[1]);
        }
    }
    throw new RuntimeException("$last, $tries times; keep it, and post it later under the same key");
}

echo post($argv[1], $argv[2], $argv[3]), "\n";
