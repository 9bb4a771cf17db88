import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.stream.Collectors;

/** One whole answer, one stream and one list through the JDK's HttpClient as it comes: it offers h2c. */
public class JdkTurns {
    private static final String BODY =
            "{\"model\":\"%s\",\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}],\"stream\":%s}";

    public static void main(String[] arguments) throws Exception {
        String url = arguments[0];
        String key = arguments[1];
        String model = arguments[2];
        HttpClient client = HttpClient.newHttpClient();
        print(client, post(url, key, String.format(BODY, model, "false")));
        print(client, post(url, key, String.format(BODY, model, "true")));
        HttpRequest.Builder list = HttpRequest.newBuilder(URI.create(url + "/v1/models"));
        print(client, list.header("authorization", "Bearer " + key).GET().build());
    }

    private static HttpRequest post(String url, String key, String body) {
        return HttpRequest.newBuilder(URI.create(url + "/v1/chat/completions"))
                .header("authorization", "Bearer " + key)
                .header("content-type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofString(body))
                .build();
    }

    /** Prints the status, the version and the lines of the answer, joined. */
    private static void print(HttpClient client, HttpRequest request) throws Exception {
        HttpResponse<java.util.stream.Stream<String>> response =
                client.send(request, HttpResponse.BodyHandlers.ofLines());
        String lines = response.body().collect(Collectors.joining("|"));
        System.out.println(response.statusCode() + "\t" + response.version() + "\t" + lines);
    }
}
