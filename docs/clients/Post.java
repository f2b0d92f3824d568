// java Post.java URL KEY BODY: post one callback, and repeat it under the same key until the answer is final. Java 11 or newer.
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;

public class Post {
    private static final HttpClient HTTP = HttpClient.newBuilder()
        .version(HttpClient.Version.HTTP_1_1).connectTimeout(Duration.ofSeconds(10)).build();

    /** Returns the relay's 202 answer. IOException: refused for good, or no answer in so many tries. */
    static String post(String url, String key, String body, int tries) throws IOException, InterruptedException {
        var request = HttpRequest.newBuilder(URI.create(url)).timeout(Duration.ofSeconds(10))
            .header("Idempotency-Key", key).header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(body)).build();
        double wait = 0;
        String last = "";
        for (int n = 0; n < tries; n++) {
            Thread.sleep((long) (wait * 1000));
            wait = Math.min(30, 0.5 * Math.pow(2, n)) * (0.5 + Math.random() / 2);
            int status = 0; // no answer
            try {
                var answer = HTTP.send(request, BodyHandlers.ofString());
                status = answer.statusCode();
                if (status == 202) return answer.body();
                last = status + " " + answer.body();
                wait = Math.max(wait, answer.headers().firstValueAsLong("Retry-After").orElse(0));
            } catch (IOException error) {
                last = "no answer: " + error;
            }
            if (status != 0 && status < 500) throw new IOException("refused for good: " + last);
        }
        throw new IOException(last + ", " + tries + " times; keep it, and post it later under the same key");
    }

    public static void main(String[] args) throws Exception {
        System.out.println(post(args[0], args[1], args[2], 8));
    }
}
