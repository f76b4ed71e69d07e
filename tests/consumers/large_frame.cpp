// A frame that could step over a guard. With grt::stack_protection the compiler touches each of its pages in order.
void fill(char* memory);

void large_frame() {
  char memory[256 << 10];
  fill(memory);
}
