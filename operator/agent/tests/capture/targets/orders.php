<?php
// A service that waits: each order asks a third party by HTTP, then computes. Argument: the port of the third party.
class Shop
{
    public static function pay(string $port): string
    {
        return file_get_contents("http://127.0.0.1:$port/"); // the wait
    }

    // Several turns of the sampler long: where the CPUs are busy, a turn comes late, and finds of a short burst no more
    // than that it was.
    public static function guilty(): int
    {
        $x = 0;
        for ($i = 0; $i < 6000000; $i++) { $x = ($x + $i * $i) % 1000003; }
        return $x;
    }
}

function order(string $port): void
{
    Shop::pay($port);
    Shop::guilty();
}

while (true) {
    order($argv[1]);
}
