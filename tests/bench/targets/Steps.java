// A Java target that does the same work in each step and says after each how far its clocks are.
// Prints `MONOTONIC_NS CPU_NS` a step (about 5 ms). The work is done below 12 callers; 4 threads wait beside it.
import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.util.concurrent.locks.LockSupport;

public class Steps {
    static final int[] cells = new int[65536];
    static volatile int sink;

    // Arithmetic and memory in an order that the processor does not foresee.
    static int blend(int seed) {
        for (int i = 0; i < 1_000_000; i++) {
            seed = seed * 1664525 + 1013904223;
            cells[(seed >>> 8) % cells.length] += seed ^ (seed >>> 13);
        }
        return seed;
    }

    static int page(int depth, int seed) {
        int done = depth > 0 ? page(depth - 1, seed + 1) : blend(seed);
        sink = done;
        return done ^ depth;
    }

    public static void main(String[] arguments) {
        for (int i = 0; i < 4; i++) {
            Thread waits = new Thread(() -> {
                while (true) {
                    LockSupport.park();
                }
            });
            waits.setDaemon(true);
            waits.start();
        }
        OperatingSystemMXBean clock = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        while (true) {
            page(12, sink);
            System.out.print(System.nanoTime() + " " + clock.getProcessCpuTime() + "\n");
            System.out.flush();
        }
    }
}
