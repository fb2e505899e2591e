"""A service of asyncio: one task awaits a third party's answers, then computes; others wait for other things."""
import asyncio
import sys
import threading
import time


async def ask(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer


async def pay(port):
    return await ask(port)


def guilty(seconds):
    x, end = 0, time.thread_time() + seconds
    while time.thread_time() < end:
        for i in range(5_000):
            x += i * i
    return x


async def order(port):
    while True:
        await pay(port)
        guilty(0.02)


async def pieces():
    while True:
        await asyncio.sleep(0.05)
        yield 1


async def stream():
    async for _ in pieces():
        pass


async def worker(queue):
    while True:
        await queue.get()


async def silent():
    await asyncio.Event().wait()


async def main(port):
    queue = asyncio.Queue()
    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(worker(queue), name=f"worker-{number}")
        group.create_task(order(port))
        group.create_task(stream(), name="stream\n\x1b[31m")


async def brief(number):
    await asyncio.sleep(0.1 + 0.01 * (number % 37))


async def again(number):
    while True:
        await asyncio.create_task(brief(number))


async def crowd(count):
    tasks = [asyncio.create_task(again(number)) for number in range(count)]
    await asyncio.sleep(0.5)
    # The second thread says that all of them are there.
    threading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()
    await asyncio.wait(tasks)


if sys.argv[1] == "crowd":
    asyncio.run(crowd(int(sys.argv[2])))
threading.Thread(target=asyncio.run, args=(silent(),), daemon=True).start()
asyncio.run(main(int(sys.argv[1])))
