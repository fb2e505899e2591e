// A service that waits: each order asks a third party by HTTP, then computes. Its pool has nothing to do, and one
// thread waits for a lock that another one holds. Arguments: the port of the third party, and how many more threads
// wait for each other.
import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.URL;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

public class Orders {
    static final Object MONITOR = new Object();
    static volatile long sink;

    static void guilty() {
        long x = 1;
        for (int i = 0; i < 14_000_000; i++) {
            x = x * 6364136223846793005L + i;
        }
        sink = x;
    }

    static void pay(String url) throws Exception {
        HttpURLConnection asked = (HttpURLConnection) new URL(url).openConnection();
        try (InputStream answer = asked.getInputStream()) {
            answer.readAllBytes();
        }
    }

    static void order(String url) throws Exception {
        pay(url);
        guilty();
    }

    static void holds() {
        synchronized (MONITOR) {
            sleeps();
        }
    }

    static void sleeps() {
        try {
            Thread.sleep(1_000_000_000);
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }

    static void wants() {
        synchronized (MONITOR) {
            sink++;
        }
    }

    static void crowd(CountDownLatch never) {
        try {
            never.await();
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }

    static void daemon(Runnable work) {
        Thread thread = new Thread(null, work, "thread of orders", 256 * 1024);
        thread.setDaemon(true);
        thread.start();
    }

    public static void main(String[] arguments) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(3);
        CountDownLatch started = new CountDownLatch(3);
        for (int i = 0; i < 3; i++) {
            pool.submit(() -> {
                started.countDown();
                started.await();
                return null;
            });
        }
        started.await();
        daemon(Orders::holds);
        Thread.sleep(200);
        daemon(Orders::wants);
        CountDownLatch never = new CountDownLatch(1);
        for (int i = 0; arguments.length > 1 && i < Integer.parseInt(arguments[1]); i++) {
            daemon(() -> crowd(never));
        }
        System.out.println("ready");
        for (;;) {
            order("http://127.0.0.1:" + arguments[0] + "/");
        }
    }
}
