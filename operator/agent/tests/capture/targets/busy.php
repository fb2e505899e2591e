<?php
// A target with one guilty function: nine tenths of its CPU time. Served by FPM, it works for a while; with the
// argument sleep it does nothing.
class Shop
{
    public static function guilty(int $n): int
    {
        $x = 0;
        while ($n > 0) { $x = ($x + $n * $n) % 1000003; $n--; } // the guilty line
        return $x;
    }

    public static function innocent(int $n): int
    {
        $x = 0;
        while ($n > 0) { $x = ($x + $n * $n) % 1000003; $n--; }
        return $x;
    }
}

function work(): void
{
    Shop::guilty(90000);
    Shop::innocent(10000);
}

while (($argv[1] ?? '') === 'sleep') {
    usleep(50000);
}
$end = PHP_SAPI === 'cli' ? INF : microtime(true) + 1;
while (microtime(true) < $end) {
    work();
}
