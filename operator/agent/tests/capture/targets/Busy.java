// A service with a guilty method for each kind of profile. Arguments: what its threads do, any of cpu, alloc,
// lock, park, hoard; then seconds to live, or none. At its end it prints how many rounds of cpu it did.
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReentrantLock;

public class Busy {
    static final Object MONITOR = new Object();
    static final ReentrantLock LOCK = new ReentrantLock();
    static volatile double sink;
    static volatile Object kept;
    static final List<Kept> HOARD = new ArrayList<>();

    static void guilty() {
        double sum = 0;
        for (int i = 1; i < 2_000_000; i++) {
            sum += Math.sqrt(i) / (sum + i);
        }
        sink = sum;
    }

    static void innocent() {
        double sum = 0;
        for (int i = 1; i < 20_000; i++) {
            sum += i;
        }
        sink = sum;
    }

    static void allocates() {
        kept = new long[16_384];
    }

    /** What hoard keeps: 64 bytes each. */
    static class Kept {
        long a, b, c, d, e, f;
    }

    static void hoard() {
        for (int i = 0; i < 300_000; i++) {
            HOARD.add(new Kept());
        }
    }

    static void holds() throws InterruptedException {
        synchronized (MONITOR) {
            Thread.sleep(40);
        }
        Thread.sleep(5);
    }

    static void contends() {
        synchronized (MONITOR) {
            sink++;
        }
    }

    static void keepsLocked() throws InterruptedException {
        LOCK.lock();
        try {
            Thread.sleep(30);
        } finally {
            LOCK.unlock();
        }
        Thread.sleep(5);
    }

    static void awaitsLock() {
        LOCK.lock();
        LOCK.unlock();
    }

    static volatile long rounds;

    interface Work {
        void once() throws InterruptedException;
    }

    static void start(String name, Work work) {
        Thread thread = new Thread(() -> {
            try {
                while (true) {
                    work.once();
                }
            } catch (InterruptedException ended) {
                Thread.currentThread().interrupt();
            }
        }, name);
        thread.setDaemon(true);
        thread.start();
    }

    public static void main(String[] arguments) throws InterruptedException {
        long seconds = 3600;
        List<String> works = new ArrayList<>();
        for (String argument : arguments) {
            if (Character.isDigit(argument.charAt(0))) {
                seconds = Long.parseLong(argument);
            } else {
                works.add(argument);
            }
        }
        for (String work : works) {
            switch (work) {
                case "cpu":
                    start("cpu", () -> { guilty(); innocent(); rounds++; });
                    break;
                case "alloc":
                    start("alloc", () -> { allocates(); Thread.sleep(1); });
                    break;
                case "lock":
                    start("holder", Busy::holds);
                    start("waiter", () -> { contends(); Thread.sleep(1); });
                    break;
                case "park":
                    start("keeper", Busy::keepsLocked);
                    start("awaiter", () -> { awaitsLock(); Thread.sleep(1); });
                    start("parked", () -> LockSupport.parkNanos(Busy.class, 50_000_000L));
                    break;
                case "hoard":
                    hoard();
                    break;
                default:
                    throw new IllegalArgumentException(work);
            }
        }
        System.out.println("ready");
        Thread.sleep(1000 * seconds);
        System.out.println("rounds " + rounds);
    }
}
