// For the size of a program: posts, and waits on a timer. What a program has of Boost.Asio before it takes residency
// in.
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include <chrono>
#include <iostream>

int main() {
    boost::asio::io_context context;
    boost::asio::steady_timer timer(context, std::chrono::milliseconds(1));
    boost::asio::post(context, [] { std::cout << "posted\n"; });
    timer.async_wait([](const boost::system::error_code& error) { std::cout << error.message() << '\n'; });
    context.run();
}
