/* Echo over TCP or UDP on libuv, written as its guide does it: a peer of the measurement.
 *
 *     uv_echo tcp | udp PORT    without arguments, it prints the version of libuv
 *
 * It tries to write at once, and queues what the kernel does not take. It has no timeouts and no
 * limits: a peer that never reads makes its queue grow. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define BUFFER_BYTES 65536
#define BACKLOG 4096

/* What could not be sent at once, behind its request. */
struct rest {
    uv_write_t request;
    char bytes[];
};

static char buffer[BUFFER_BYTES]; /* one for all: each read is used up in its callback */

static void lend_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *lent) {
    (void)handle, (void)suggested;
    *lent = uv_buf_init(buffer, BUFFER_BYTES);
}

static void on_closed(uv_handle_t *handle) { free(handle); }

static void on_shut_down(uv_shutdown_t *request, int status) {
    (void)status;
    uv_close((uv_handle_t *)request->handle, on_closed);
    free(request);
}

static void on_written(uv_write_t *request, int status) {
    (void)status; /* a reset is also reported to on_read */
    free(request);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *read) {
    if (count == UV_EOF && uv_stream_get_write_queue_size(stream) > 0) { /* sends the rest first */
        uv_shutdown_t *request = malloc(sizeof *request);
        if (uv_shutdown(request, stream, on_shut_down) == 0)
            return;
        free(request);
    }
    if (count < 0) {
        uv_close((uv_handle_t *)stream, on_closed);
        return;
    }
    uv_buf_t reply = uv_buf_init(read->base, count);
    int sent = uv_try_write(stream, &reply, 1);
    size_t missing = count - (sent > 0 ? sent : 0);
    if (missing == 0)
        return;
    struct rest *rest = malloc(sizeof *rest + missing);
    memcpy(rest->bytes, read->base + count - missing, missing);
    reply = uv_buf_init(rest->bytes, missing);
    if (uv_write(&rest->request, stream, &reply, 1, on_written) != 0)
        free(rest);
}

static void on_connection(uv_stream_t *listener, int status) {
    if (status != 0)
        return;
    uv_tcp_t *connection = malloc(sizeof *connection);
    uv_tcp_init(listener->loop, connection);
    if (uv_accept(listener, (uv_stream_t *)connection) != 0) {
        uv_close((uv_handle_t *)connection, on_closed);
        return;
    }
    uv_tcp_nodelay(connection, 1);
    uv_read_start((uv_stream_t *)connection, lend_buffer, on_read);
}

static void on_datagram(uv_udp_t *socket, ssize_t count, const uv_buf_t *read,
                        const struct sockaddr *peer, unsigned flags) {
    (void)flags;
    if (count < 0 || peer == NULL)
        return;
    uv_buf_t reply = uv_buf_init(read->base, count);
    uv_udp_try_send(socket, &reply, 1, peer); /* without room, it is dropped as on a network */
}

int main(int count, char **arguments) {
    if (count != 3) {
        printf("libuv %s\n", uv_version_string());
        return 2;
    }
    signal(SIGPIPE, SIG_IGN); /* a write after a reset is an error, not the end */
    uv_loop_t *loop = uv_default_loop();
    uv_tcp_t listener;
    uv_udp_t socket;
    struct sockaddr_in address;
    int failed = uv_ip4_addr("127.0.0.1", atoi(arguments[2]), &address);
    const struct sockaddr *at = (const struct sockaddr *)&address;
    if (strcmp(arguments[1], "tcp") == 0) {
        failed = failed || uv_tcp_init(loop, &listener) || uv_tcp_bind(&listener, at, 0) ||
                 uv_listen((uv_stream_t *)&listener, BACKLOG, on_connection);
    } else {
        failed = failed || uv_udp_init(loop, &socket) || uv_udp_bind(&socket, at, 0) ||
                 uv_udp_recv_start(&socket, lend_buffer, on_datagram);
    }
    return failed ? 1 : uv_run(loop, UV_RUN_DEFAULT);
}
